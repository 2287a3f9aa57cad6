"""Show a run's progress on standard error: a live bar on a terminal, otherwise a line for each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from gridapps_client.models import Run
from gridapps_client.text import plain

_STEP = 0.1


class Watcher(Protocol):
    """Shows each new state of a run."""

    def show(self, run: Run) -> None:
        """The run has changed."""


class Bar:
    """A bar on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1.0, counts="", message="")

    def show(self, run: Run) -> None:
        """The run has changed."""
        self._progress.update(
            self._task,
            completed=1.0 if run.state == "SUCCESS" else run.progress,
            description=escape(f"{plain(run.app)} {plain(run.state)}"),
            counts=counts(run),
            message=escape(plain(run.message)),
        )


class PlainLines:
    """A line for each change of state and each tenth of the progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: tuple[str, int] | None = None

    def show(self, run: Run) -> None:
        """The run has changed."""
        step = (run.state, int(run.progress / _STEP))
        if step == self._last:
            return
        self._last = step
        line = f"{plain(run.app)} {plain(run.state)} {run.progress:.0%} {counts(run)} {plain(run.message)}"
        self._console.out(line.rstrip(), highlight=False)


def counts(run: Run) -> str:
    """`3/4 tasks`, how many failed, and how many are ahead in the queue."""
    total, done = sum(run.task_counts.values()), run.task_counts.get("SUCCESS", 0)
    failed = run.task_counts.get("FAILURE", 0)
    ahead = run.queue_position if run.state == "QUEUED" else None
    return (
        f"{done}/{total} task{'s' if total != 1 else ''}"
        + (f", {failed} failed" if failed else "")
        + (f", about {ahead} before it" if ahead else "")
    )


@contextmanager
def watching(console: Console) -> Iterator[Watcher]:
    """A watcher that fits `console`."""
    if not console.is_terminal:
        yield PlainLines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress)


@contextmanager
def transferring(console: Console, *, total: int | None, what: str = "outputs") -> Iterator[Progress]:
    """A bar for `total` bytes, on terminals only. Advance its only task by the bytes transferred."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=total)
        yield progress
