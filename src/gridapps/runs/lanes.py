"""Who is next: the order of the queue and its limits.

Users take turns: who has the fewest tasks running, then whose last claim is longest ago. Within a user's
tasks the earliest rank is next: the time of submission, moved by the priority. That is ageing already: of two
tasks the one with the lower priority is next as soon as it is older by AGEING for each step between them.

Limits (of tasks at once per user and per App, and of what a node has left) hold back lanes, never a whole
user. The cost of a claim grows with the lanes that are held back and with the tasks that run, not with those
that are queued.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Count, F, Min, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now

from gridapps.registry.models import App
from gridapps.runs.models import Lane, Node, Run, Task, Turn
from gridapps.runs.states import State

AGEING = timedelta(minutes=10)  # of waiting make up for one step of priority
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 500  # tasks without a lane that one claim looks at
_RESOURCES = ("cpus", "memory", "disk")


def lane_of(run: Run) -> Lane:
    """The lane in which tasks of this run wait. Call it in the transaction that queues them: until its end
    nobody removes the lane."""
    # Not for update of its key: that would wait for every claim whose task refers to it, and they for this.
    lane, _ = Lane.objects.select_for_update(no_key=True).get_or_create(
        owner_id=run.owner_id,
        app_id=run.release.app_id,
        **{name: getattr(run, name) for name in _RESOURCES},
        defaults={
            "turn": Turn.objects.filter(pk=run.owner_id).values_list("at", flat=True).first() or _NEVER
        },
    )
    return lane


def rank(run: Run) -> CombinedExpression:
    """The place in the lane of a task of this run that is queued now, as an expression."""
    return Now() - Value(AGEING * run.priority)


def choose(node: Node | None) -> Task | None:
    """The task that is next for this node (one without a row has room for everything), or None. Call it under
    the queue's lock; `taken` says that the task was claimed."""
    _put_into_lanes()
    lanes = _within_limits()
    if node is None:
        return _next(lanes)
    room = _room(node)
    if node.reserved is not None:
        task = _next(lanes.filter(pk=node.reserved.pk))
        if task is not None and task.lane is not None:
            return task if _fits(task.lane, room) else None
    lanes = lanes.filter(cpus__lte=node.cpus, memory__lte=node.memory, disk__lte=node.disk)
    task = _next(lanes)
    if task is None or task.lane is None or _fits(task.lane, room):
        return task
    return None if _reserve(node, task.lane) else _next(lanes.filter(room))


def taken(task: Task) -> None:
    """The task was claimed: it is another user's turn, and nobody need keep room for its lane."""
    Turn.objects.update_or_create(owner_id=task.owner_id, defaults={"at": Now()})
    # Somebody who queues tasks in a lane right now is not waited for; the lane's turn is put right next time.
    free = Lane.objects.filter(owner=task.owner_id).select_for_update(skip_locked=True, no_key=True)
    Lane.objects.filter(pk__in=[lane.pk for lane in free]).update(turn=Now())
    if task.lane is not None and task.lane.passed_over_at is not None:
        Lane.objects.filter(pk=task.lane.pk).update(passed_over_at=None)
        Node.objects.filter(reserved=task.lane).update(reserved=None)


def too_large_for_all(run: Run) -> bool:
    """Whether there are nodes, and none could ever hold a task of this run."""
    large = Node.objects.filter(cpus__gte=run.cpus, memory__gte=run.memory, disk__gte=run.disk)
    return Node.objects.exists() and not large.exists()


def _within_limits() -> "QuerySet[Lane]":
    """The lanes whose user and App may have one task more running."""
    lanes = Lane.objects.all()
    limits = dict(App.objects.filter(max_running__isnull=False).values_list("pk", "max_running"))
    if limits:
        running = Task.objects.filter(state=State.RUNNING, run__release__app__in=limits).order_by()
        counts = running.values_list("run__release__app").annotate(n=Count("pk"))
        lanes = lanes.exclude(app__in=[app for app, n in counts if n >= (limits[app] or 0)])
    return lanes


def _room(node: Node) -> Q:
    """The condition that a lane's tasks fit into what the tasks running on the node leave."""
    running = Task.objects.filter(state=State.RUNNING, node=node.pk).order_by()
    used = running.aggregate(**{name: Sum(f"run__{name}") for name in _RESOURCES})
    # Processors are sums of fractions: a billionth more is none.
    left = {name: getattr(node, name) - (used[name] or 0) for name in _RESOURCES}
    return Q(cpus__lte=left["cpus"] + 1e-9, memory__lte=left["memory"], disk__lte=left["disk"])


def _fits(lane: Lane, room: Q) -> bool:
    return Lane.objects.filter(room, pk=lane.pk).exists()


def _next(lanes: "QuerySet[Lane]") -> Task | None:
    """The head of the lane that is next among these. Empty lanes that it comes across are removed."""
    running = dict(
        Task.objects.filter(state=State.RUNNING).order_by().values_list("owner").annotate(n=Count("pk"))
    )
    while (owner := _next_owner(lanes, running)) is not None:
        mine = lanes.filter(owner=owner)
        heads = Task.objects.filter(lane=OuterRef("pk"), state=State.QUEUED).order_by("rank", "index")
        ranked = list(mine.annotate(head=Subquery(heads.values("pk")[:1])))
        waiting = [lane.head for lane in ranked if lane.head]
        removed = _remove(lane.pk for lane in ranked if not lane.head)
        if waiting:
            tasks = Task.objects.select_related("lane").filter(pk__in=waiting)
            return tasks.order_by("rank", "index").first()
        if not removed:
            # Somebody is queueing tasks in it right now.
            lanes = lanes.exclude(owner=owner)
    return None


def _next_owner(lanes: "QuerySet[Lane]", running: dict[int, int]) -> int | None:
    """Those with nothing running come first, by turn: the index ends the search at the first of them."""
    idle = lanes.exclude(owner__in=running).order_by("turn", "pk")
    first: int | None = idle.values_list("owner", flat=True).first()
    if first is not None:
        return first
    limit = settings.GRIDAPPS.max_running
    may = [owner for owner, count in running.items() if not limit or count < limit]
    turns = dict(lanes.filter(owner__in=may).order_by().values_list("owner").annotate(turn=Min("turn")))
    return min(turns, key=lambda owner: (running[owner], turns[owner]), default=None)


def _remove(lanes: Iterable[int]) -> int:
    """Remove those that are empty, unless somebody queues tasks in them right now; how many were."""
    free = Lane.objects.filter(pk__in=list(lanes)).select_for_update(skip_locked=True)
    # Looked at again, under the lock: they may have been filled since.
    empty = [lane.pk for lane in free if not lane.tasks.filter(state=State.QUEUED).exists()]
    Lane.objects.filter(pk__in=empty).delete()
    return len(empty)


def _reserve(node: Node, lane: Lane) -> bool:
    """Note that it is the lane's turn and the node has no room. After a while the node keeps its room for it,
    unless another does."""
    waited = Now() - Value(timedelta(seconds=settings.GRIDAPPS.reserve_after))
    if lane.passed_over_at is None:
        Lane.objects.filter(pk=lane.pk).update(passed_over_at=Now())
        return False
    alive = Now() - Value(timedelta(seconds=settings.GRIDAPPS.lease))
    others = Node.objects.filter(reserved=lane.pk, draining=False, last_seen_at__gt=alive)
    if others.exists() or not Lane.objects.filter(pk=lane.pk, passed_over_at__lte=waited).exists():
        return False
    Node.objects.filter(pk=node.pk).update(reserved=lane.pk)
    return True


def _put_into_lanes() -> None:
    """Tasks that were given back, or queued by a program of an earlier version, have no lane yet."""
    strays = Task.objects.filter(state=State.QUEUED, lane__isnull=True).order_by("queued_at")
    runs = set(strays.values_list("run", flat=True)[:_AT_ONCE])
    for run in Run.objects.filter(pk__in=runs).select_related("release").order_by("created_at"):
        strays.filter(run=run).order_by().update(lane=lane_of(run), rank=Coalesce(F("rank"), F("queued_at")))
