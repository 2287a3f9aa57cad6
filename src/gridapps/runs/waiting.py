"""What the first queued task of a run waits for, and for how many others, in words for its owner.

About other users it reveals only how many of their tasks go first.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from django.conf import settings
from django.db.models import Count, Q, Sum, Value
from django.db.models.functions import Now

from gridapps.runs import node_disk
from gridapps.runs.models import Node, Run, Task
from gridapps.runs.overview import SILENT
from gridapps.runs.position import Ahead, ahead
from gridapps.runs.states import State
from gridapps.sandbox.resources import shown

Cause = Literal["worker", "larger-node", "free-disk", "user-limit", "app-limit", "capacity", "turn"]
_RESOURCES = ("cpus", "memory", "disk")
_OF = {"cpus": " are", "memory": " of memory are", "disk": " of disk are"}


@dataclass(frozen=True)
class WaitsFor:
    """`cause` is a code, `text` a sentence, `ahead` the tasks that go first."""

    cause: Cause
    text: str
    ahead: Ahead


def waits_for(run: Run) -> WaitsFor | None:
    """None when none of the run's tasks is queued. An estimate, as of now."""
    first = ahead(run)
    if first is None:
        return None
    cause, text = _cause(run)
    if first.sum:
        text = f"{text} {_words(first)}".strip()
    return WaitsFor(cause, text or "Is next: a worker claims it soon.", first)


def _cause(run: Run) -> tuple[Cause, str]:
    up = Q(session__isnull=False, last_seen_at__gt=Now() - Value(timedelta(seconds=SILENT)), draining=False)
    nodes = list(Node.objects.filter(up))
    if not nodes:
        return "worker", "No worker takes tasks at the moment."
    fitting = [node for node in nodes if not _lacks(run, {name: getattr(node, name) for name in _RESOURCES})]
    if not fitting:
        return "larger-node", f"No node that is up is large enough: a task needs {_wanted(run)}."
    if nearly_full := node_disk.why_waiting(run):
        return "free-disk", nearly_full
    running = Task.objects.filter(state=State.RUNNING).order_by()
    limit, mine = settings.GRIDAPPS.max_running, running.filter(owner=run.owner_id).count()
    if limit and mine >= limit:
        return "user-limit", f"You have {_tasks(mine)} running; a user may have {limit} at once."
    app = run.release.app
    if app.max_running is not None:
        of_app = running.filter(run__release__app=app).count()
        if of_app >= app.max_running:
            return (
                "app-limit",
                f"The App has {_tasks(of_app)} running; it may have {app.max_running} at once.",
            )
    shortage = _shortage(run, fitting)
    return ("capacity", shortage) if shortage else ("turn", "")


def _shortage(run: Run, nodes: list[Node]) -> str:
    """What every one of these nodes lacks now, by the node that lacks least; "" if one has capacity."""
    sums = {name: Sum(f"run__{name}") for name in _RESOURCES}
    rows = Task.objects.filter(state=State.RUNNING, node__in=[node.pk for node in nodes]).order_by()
    used = {row["node"]: row for row in rows.values("node").annotate(tasks=Count("pk"), **sums)}
    lacks = []
    for node in nodes:
        here: dict[str, Any] = dict(used.get(node.pk, {}))
        left = {name: getattr(node, name) - (here.get(name) or 0) for name in _RESOURCES}
        missing = [f"{shown(name, max(left[name], 0))}{_OF[name]} free" for name in _lacks(run, left)]
        if here.get("tasks", 0) >= node.slots:
            missing.append(f"all {node.slots} slots of the node are taken")
        lacks.append(missing)
    least = min(lacks, key=len)
    if not least:
        return ""
    return f"Waits for running tasks to end: a task needs {_wanted(run)}; {' and '.join(least)}."


def _wanted(run: Run) -> str:
    return f"{shown('cpus', run.cpus)}, {shown('memory', run.memory)} and {shown('disk', run.disk)} of disk"


def _lacks(run: Run, there: dict[str, float]) -> list[str]:
    """The resources of which there is less than a task of the run needs."""
    # Processors are sums of fractions: allow for rounding.
    return [name for name in _RESOURCES if getattr(run, name) > there[name] + 1e-9]


def _words(first: Ahead) -> str:
    """Which tasks go first."""
    own = f", {first.own} of them your own" if first.own else ""
    return f"About {_tasks(first.sum)} {'goes' if first.sum == 1 else 'go'} first{own}."


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
