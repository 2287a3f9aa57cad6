"""The state of the instance in a few cheap queries, for metrics and `gridapps-server status`.

Their cost grows with waiting and running tasks, nodes and users, and not with the history.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count, Min, OuterRef, Subquery, Sum
from django.utils import timezone

from gridapps.access.models import Developer, User
from gridapps.hooks.models import Delivery
from gridapps.runs.models import Lane, Node, Task
from gridapps.runs.states import State

SILENT = 60.0  # seconds without a report after which a worker counts as gone; it reports every few seconds
CLASSES = ("administrator", "developer", "user")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """How many things wait, and the age of the oldest in seconds (0 when nothing waits)."""

    count: int = 0
    oldest: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NodeLoad:
    """A node, and the resources of its running tasks. `silent` is in seconds; sizes are in bytes."""

    name: str
    slots: int
    cpus: float
    memory: int
    disk: int
    running: int
    used_cpus: float
    used_memory: int
    used_disk: int
    silent: float
    speaks: bool
    draining: bool
    engine_latency: float | None
    engine_version: str
    version: str
    stuck: list[str]  # a sentence for each container that the engine cannot remove
    free_disk: int | None  # None: not reported yet
    min_free_disk: int | None

    @property
    def is_short_of_disk(self) -> bool:
        """Whether it claims no tasks because its disk is nearly full."""
        return self.free_disk is not None and self.free_disk < (self.min_free_disk or 0)

    @property
    def standing(self) -> str:
        """Its state in one or two words."""
        if not self.speaks:
            return "stopped"
        if self.silent > SILENT:
            return "silent"
        if self.engine_latency is None:
            return "engine away"
        if self.is_short_of_disk:
            return "disk nearly full"
        return "draining" if self.draining else "up"


@dataclass(frozen=True, kw_only=True)
class LaneLoad:
    """A lane, and the run of its first task. In seconds: `since`, for how long that task has waited, and
    `passed_over`, for how long no node had capacity for it although it was next."""

    user: str
    app: str
    tasks: int
    run: str
    since: float
    passed_over: float | None
    cpus: float
    memory: int
    disk: int


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running task. In seconds: its `age`, and the time left of its `lease` (negative after its end)."""

    task: str
    run: str
    app: str
    user: str
    node: str
    attempt: int
    progress: float
    age: float
    lease: float


def now() -> datetime:
    """The database's time. SQLite's is that of this machine."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
        return found


def queue() -> dict[str, Waiting]:
    """Queued tasks, by the class of their owner."""
    at = now()
    rows = list(
        Task.objects.filter(state=State.QUEUED)
        .order_by()
        .values_list("owner")
        .annotate(n=Count("pk"), since=Min("queued_at"))
    )
    classes = _classes([owner for owner, _, _ in rows])
    found = {name: Waiting() for name in CLASSES}
    for owner, count, since in rows:
        known = found[classes[owner]]
        found[classes[owner]] = Waiting(
            count=known.count + count, oldest=max(known.oldest, (at - since).total_seconds(), 0)
        )
    return found


def lanes(*, limit: int) -> list[LaneLoad]:
    """The lanes in which tasks wait, in the order of their owners' turns; at most `limit`."""
    at = now()
    waiting = Task.objects.filter(lane=OuterRef("pk"), state=State.QUEUED).order_by("rank", "index")
    counted = waiting.order_by().values("lane").annotate(n=Count("pk")).values("n")
    rows = Lane.objects.annotate(
        tasks_waiting=Subquery(counted),
        head_run=Subquery(waiting.values("run")[:1]),
        head_since=Subquery(waiting.values("queued_at")[:1]),
    ).filter(tasks_waiting__gt=0)
    return [
        LaneLoad(
            user=row.owner.username,
            app=row.app.app_id,
            tasks=row.tasks_waiting,
            run=str(row.head_run),
            since=max((at - row.head_since).total_seconds(), 0),
            passed_over=(at - row.passed_over_at).total_seconds() if row.passed_over_at else None,
            cpus=row.cpus,
            memory=row.memory,
            disk=row.disk,
        )
        for row in rows.select_related("owner", "app").order_by("turn", "pk")[:limit]
    ]


def nodes() -> list[NodeLoad]:
    """All nodes that ever registered, with their load."""
    return loads_of(Node.objects.order_by("name"))


def loads_of(rows: Iterable[Node]) -> list[NodeLoad]:
    """The load of these nodes."""
    at = now()
    used = {
        name: rest
        for name, *rest in Task.objects.filter(state=State.RUNNING, node__in=[node.pk for node in rows])
        .order_by()
        .values_list("node")
        .annotate(n=Count("pk"), cpus=Sum("run__cpus"), memory=Sum("run__memory"), disk=Sum("run__disk"))
    }
    return [_load(node, used.get(node.name, [0, 0.0, 0, 0]), at) for node in rows]


def running(*, limit: int) -> list[Running]:
    """The running tasks, the oldest first; at most `limit`."""
    at = now()
    rows = Task.objects.filter(state=State.RUNNING).select_related("run__release__app", "owner")
    return [
        Running(
            task=str(row.pk),
            run=str(row.run_id),
            app=row.run.release.app.app_id,
            user=row.owner.username,
            node=row.node,
            attempt=row.attempt,
            progress=row.progress,
            age=(at - (row.started_at or at)).total_seconds(),
            lease=((row.lease_until or at) - at).total_seconds(),
        )
        for row in rows.order_by("started_at", "pk")[:limit]
    ]


def hooks() -> Waiting:
    """The waiting deliveries of hooks, including those that will be retried."""
    found = Delivery.objects.filter(state=Delivery.State.WAITING).aggregate(
        n=Count("pk"), since=Min("created_at")
    )
    oldest = (now() - found["since"]).total_seconds() if found["since"] else 0.0
    return Waiting(count=found["n"], oldest=max(oldest, 0.0))


def _load(node: Node, used: list[float], at: datetime) -> NodeLoad:
    count, cpus, memory, disk = used
    return NodeLoad(
        name=node.name,
        slots=node.slots,
        cpus=node.cpus,
        memory=node.memory,
        disk=node.disk,
        running=int(count),
        used_cpus=cpus,
        used_memory=int(memory),
        used_disk=int(disk),
        silent=max((at - node.last_seen_at).total_seconds(), 0),
        speaks=node.session is not None,
        draining=node.draining,
        engine_latency=node.engine_latency,
        engine_version=node.engine_version,
        version=node.version,
        stuck=node.stuck.splitlines(),
        free_disk=node.free_disk,
        min_free_disk=node.min_free_disk,
    )


def _classes(owners: list[int]) -> dict[int, str]:
    """The class of each user. A developer who is also an administrator counts as administrator."""
    found: dict[int, str] = dict.fromkeys(owners, "user")
    developers = Developer.objects.filter(user__in=owners, state=Developer.State.VERIFIED)
    found |= dict.fromkeys(developers.values_list("user", flat=True), "developer")
    administrators = User.objects.filter(pk__in=owners, is_superuser=True)
    return found | dict.fromkeys(administrators.values_list("pk", flat=True), "administrator")
