"""Events of runs for hooks."""

from typing import Any

from django.conf import settings

from gridapps.hooks import outbox
from gridapps.hooks.events import Event
from gridapps.runs.models import Run
from gridapps.runs.states import TERMINAL, State


def announce(run: Run, *, started: bool, before: tuple[str, float]) -> None:
    """Write the event of a change to the outbox, in the transaction of the change.

    `started`: the run starts for the first time. `before`: its state and progress before the change.
    """
    if run.state in TERMINAL:
        event = Event.RUN_COMPLETE
    elif started:
        event = Event.RUN_STARTED
    elif (run.state, run.progress) != before:
        event = Event.RUN_PROGRESS
    else:
        return
    outbox.note(event=event, owner=run.owner_id, subject=f"run:{run.pk}", facts=lambda: _facts(run))


def _facts(run: Run) -> dict[str, Any]:
    """The run and its state. Everything else needs a login at the URL."""
    return {
        "run": {
            "id": str(run.pk),
            "task_id": str(run.pk),
            "app": run.release.app.app_id,
            "state": State(run.state).value,
            "progress": run.progress,
            "reason": run.reason or None,
            "url": f"{settings.GRIDAPPS.origin}/api/v3/runs/{run.pk}",
        }
    }
