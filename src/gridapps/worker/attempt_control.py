"""What the steps of an attempt have in common: its signals, patience with what is unavailable, notes for the
user.
"""

import math
import time
from collections.abc import Callable
from typing import TypeVar

from gridapps.runs import queue
from gridapps.runs.models import Run
from gridapps.runs.queue import Claim
from gridapps.runs.reasons import RELEASED
from gridapps.runs.states import State
from gridapps.worker.attempt_signals import Signals
from gridapps.worker.local_node import LocalNode
from gridapps.worker.outcomes import Finished, GivenBack, Interrupted, LeaseLost, LeftRunning
from gridapps.worker.patience import Patience, persist

T = TypeVar("T")

HEARD = 15.0  # seconds between two records that a program has written to its log


class AttemptControl:
    """For one claim on one node."""

    def __init__(self, *, claim: Claim, node: LocalNode, signals: Signals) -> None:
        self.claim = claim
        self.node = node
        self.signals = signals
        self.name = node.container(claim)
        self._patience = Patience(attempt=self.name, node=node.name, waiting=signals.waiting, note=self.say)
        self._heard = -math.inf

    def check(self) -> None:
        """Raise Interrupted if the attempt must not continue on this node."""
        if self.signals.lost.is_set():
            raise Interrupted(LeaseLost())
        if self.signals.leave.is_set():
            raise Interrupted(LeftRunning())
        if self.signals.stop.is_set():
            text = f"Node {self.node.name} was stopped."
            raise Interrupted(GivenBack(reason=RELEASED, text=text))
        if self.signals.cancel.is_set():
            text = self.why_canceled()
            raise Interrupted(Finished(state=State.CANCELED, reason="canceled", text=text))

    def patiently(self, action: Callable[[], T], *, cancelable: bool = True, alone: bool = False) -> T:
        """See `Patience`. `cancelable` is false while a container may run, because a cancel must stop it."""
        check = self.check if cancelable else self._check_unless_canceled
        return self._patience(action, check=check, alone=alone)

    def say(self, message: str) -> None:
        """Show a message to the user, and keep the progress. Raises LostLease."""
        self.note(fraction=None, message=message)

    def note(self, *, fraction: float | None, message: str) -> None:
        """Store the progress and its message. Raises LostLease."""
        persist(lambda: queue.progress(claim=self.claim, fraction=fraction, message=message))

    def note_heard(self) -> None:
        """Record that the program has written to its log, at most once in HEARD seconds. Raises LostLease."""
        now = time.monotonic()
        if now >= self._heard + HEARD:
            self._heard = now
            persist(lambda: queue.heard(claim=self.claim))

    def why_canceled(self) -> str:
        """The text for the user."""
        return persist(lambda: Run.objects.get(pk=self.claim.run)).cancel_text or queue.CANCELED

    def _check_unless_canceled(self) -> None:
        if not self.signals.cancel.is_set():
            self.check()
