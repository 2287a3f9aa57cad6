"""The possible outcomes of an attempt. Each attempt has one, and `Execution.run` acts on it."""

from dataclasses import dataclass, field
from typing import Any

from gridapps.runs.states import State
from gridapps.runs.store import CollectedFile


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The task ends, whether its program succeeded or not."""

    state: State
    reason: str
    text: str
    exit_code: int | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    outputs: list[CollectedFile] = field(default_factory=list)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    left_out_count: int = 0


@dataclass(frozen=True, kw_only=True)
class GivenBack:
    """The task goes back to the queue, for a reason that `queue.release` takes."""

    reason: str
    text: str
    node_refused: bool = False  # the registry refuses this node, so the next task would fail in the same way


@dataclass(frozen=True)
class LeaseLost:
    """The task may belong to another worker, so nothing is recorded."""


@dataclass(frozen=True)
class LeftRunning:
    """The worker stops and leaves the container to its successor."""


Outcome = Finished | GivenBack | LeaseLost | LeftRunning


class Interrupted(Exception):
    """A signal ends the attempt in the middle of a step."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome
