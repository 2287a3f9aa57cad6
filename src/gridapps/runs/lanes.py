"""Which task is next: the order of the queue and its limits.

Users take turns: the user with the fewest running tasks comes first; among equals, the one whose last claim
is longest ago. Of a user's tasks the one with the earliest rank is next. The rank is the time of submission;
each step of priority moves it by AGEING, so a task of low priority is overtaken for a limited time only.

The limit of an App and the free capacity of a node hold back lanes, so the user's other lanes go on. The
limit per user holds back that user. The cost of a claim grows with the number of lanes that are held back and
of running tasks, not with the number of queued tasks.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Coalesce, Now

from gridapps.registry.models import App
from gridapps.runs.models import Lane, Node, Run, Task, Turn
from gridapps.runs.states import State

AGEING = timedelta(minutes=10)  # the waiting time that makes up for one step of priority
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 500  # tasks without a lane that one claim puts into lanes
_RESOURCES = ("cpus", "memory", "disk")


def lane_of(run: Run) -> Lane:
    """The lane for tasks of this run, made if there is none.

    Call it in the transaction that queues them: the lane is locked against removal until its end.
    """
    # A lock that includes the key would block claims of tasks in this lane, and be blocked by them.
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
    """The rank of a task of this run that is queued now, as an expression."""
    return Now() - Value(AGEING * run.priority)


@dataclass(frozen=True)
class Choice:
    """What a node should do. `choose` writes nothing: `pass_over` and `taken` do."""

    task: Task | None  # the one to claim
    passed_over: Lane | None = None  # the next lane, when the node has no capacity for its tasks
    reserves: bool = False  # claim nothing, and keep capacity that becomes free for that lane


def choose(node: Node | None) -> Choice:
    """Which task is next for this node. A node without a row has capacity for every task.

    Call it under the queue's lock.
    """
    lanes = _within_limits()
    if node is None:
        return Choice(_next(lanes))
    capacity = _capacity(node)
    if node.reserved is not None:
        task = _next(lanes.filter(pk=node.reserved.pk))
        if task is not None:
            return Choice(task if _fits(task.lane, capacity) else None)
    task = _next(lanes.filter(cpus__lte=node.cpus, memory__lte=node.memory, disk__lte=node.disk))
    if task is None or _fits(task.lane, capacity):
        return Choice(task)
    if _is_due(task.lane):
        return Choice(None, passed_over=task.lane, reserves=True)
    return Choice(_next(lanes.filter(capacity)), passed_over=task.lane)


def pass_over(node: Node, choice: Choice) -> None:
    """Note which lane was passed over, and whether the node keeps its free capacity for it."""
    lane = choice.passed_over
    if lane is not None and lane.passed_over_at is None:
        Lane.objects.filter(pk=lane.pk).update(passed_over_at=Now())
    if lane is not None and choice.reserves:
        Node.objects.filter(pk=node.pk).update(reserved=lane.pk)


def taken(task: Task) -> None:
    """Note that the task was claimed: other users are next, and no node keeps capacity for its lane."""
    Turn.objects.update_or_create(owner_id=task.owner_id, defaults={"at": Now()})
    if task.lane is not None and task.lane.passed_over_at is not None:
        Lane.objects.filter(pk=task.lane.pk).update(passed_over_at=None)
        Node.objects.filter(reserved=task.lane).update(reserved=None)
    remove_empty(task.owner_id).update(turn=Now())


def remove_empty(owner: int) -> "QuerySet[Lane]":
    """Remove the user's lanes in which no task waits, and return the others. Call it under the queue's lock.

    A lane in which a submission is queueing tasks is locked, and skipped: it is not removed and not returned.
    """
    locked = Lane.objects.filter(owner=owner).select_for_update(skip_locked=True, no_key=True)
    free = Lane.objects.filter(pk__in=[lane.pk for lane in locked])
    empty = list(free.exclude(Exists(_heads())).values_list("pk", flat=True))
    Lane.objects.filter(pk__in=empty).delete()
    return free


def put_into_lanes() -> None:
    """Assign lanes to queued tasks without one: those given back, and those queued by an earlier version."""
    strays = Task.objects.filter(state=State.QUEUED, lane__isnull=True).order_by("queued_at")
    runs = set(strays.values_list("run", flat=True)[:_AT_ONCE])
    for run in Run.objects.filter(pk__in=runs).select_related("release").order_by("created_at"):
        strays.filter(run=run).order_by().update(lane=lane_of(run), rank=Coalesce(F("rank"), F("queued_at")))


def too_large_for_all(run: Run) -> bool:
    """Whether there are nodes, and none is large enough for a task of this run."""
    large = Node.objects.filter(cpus__gte=run.cpus, memory__gte=run.memory, disk__gte=run.disk)
    return Node.objects.exists() and not large.exists()


def _within_limits() -> "QuerySet[Lane]":
    """The lanes whose App may have one more task running."""
    lanes = Lane.objects.all()
    limits = dict(App.objects.filter(max_running__isnull=False).values_list("pk", "max_running"))
    if limits:
        running = Task.objects.filter(state=State.RUNNING, run__release__app__in=limits).order_by()
        counts = running.values_list("run__release__app").annotate(n=Count("pk"))
        lanes = lanes.exclude(app__in=[app for app, n in counts if n >= (limits[app] or 0)])
    return lanes


def _capacity(node: Node) -> Q:
    """The condition that a lane's tasks fit into what the node's running tasks leave."""
    running = Task.objects.filter(state=State.RUNNING, node=node.pk).order_by()
    used = running.aggregate(**{name: Sum(f"run__{name}") for name in _RESOURCES})
    # Processors are sums of fractions: allow for rounding.
    left = {name: getattr(node, name) - (used[name] or 0) for name in _RESOURCES}
    return Q(cpus__lte=left["cpus"] + 1e-9, memory__lte=left["memory"], disk__lte=left["disk"])


def _fits(lane: Lane | None, capacity: Q) -> bool:
    return lane is None or Lane.objects.filter(capacity, pk=lane.pk).exists()


def _next(lanes: "QuerySet[Lane]") -> Task | None:
    """The next task among those of these lanes."""
    waiting = lanes.filter(Exists(_heads()))
    owner = _next_owner(waiting)
    if owner is None:
        return None
    heads = waiting.filter(owner=owner).values_list(Subquery(_heads().values("pk")[:1]), flat=True)
    tasks = Task.objects.select_related("lane").filter(pk__in=list(heads))
    return tasks.order_by("rank", "index").first()


def _heads() -> "QuerySet[Task]":
    """The queued tasks of an outer query's lane, in order."""
    return Task.objects.filter(lane=OuterRef("pk"), state=State.QUEUED).order_by("rank", "index")


def _next_owner(lanes: "QuerySet[Lane]") -> int | None:
    """The user who is next among the owners of these lanes.

    Users without running tasks come first, by turn. An index finds the first of them.
    """
    rows = Task.objects.filter(state=State.RUNNING).order_by().values_list("owner").annotate(n=Count("pk"))
    running: dict[int, int] = dict(rows)
    idle = lanes.exclude(owner__in=running).order_by("turn", "pk")
    first: int | None = idle.values_list("owner", flat=True).first()
    if first is not None:
        return first
    limit = settings.GRIDAPPS.max_running
    may = [owner for owner, count in running.items() if not limit or count < limit]
    turns = dict(lanes.filter(owner__in=may).order_by().values_list("owner").annotate(turn=Min("turn")))
    return min(turns, key=lambda owner: (running[owner], turns[owner]), default=None)


def _is_due(lane: Lane | None) -> bool:
    """Whether the lane was passed over so long that a node should keep capacity for it, and none does."""
    if lane is None or lane.passed_over_at is None:
        return False
    waited = Now() - Value(timedelta(seconds=settings.GRIDAPPS.reserve_after))
    alive = Now() - Value(timedelta(seconds=settings.GRIDAPPS.lease))
    others = Node.objects.filter(reserved=lane.pk, draining=False, last_seen_at__gt=alive)
    return not others.exists() and Lane.objects.filter(pk=lane.pk, passed_over_at__lte=waited).exists()
