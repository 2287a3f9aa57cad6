"""How the instance stands, in a few cheap questions: for metrics, and for `gridapps-server status`.

What is asked grows with what waits and runs, with nodes and users, never with the history.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Count, Min, Sum
from django.utils import timezone

from gridapps.access.models import Developer, User
from gridapps.hooks.models import Delivery
from gridapps.runs.models import Node, Task
from gridapps.runs.states import State

CLASSES = ("administrator", "developer", "user")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What waits: how much, and the age of the oldest in seconds (0 when nothing waits)."""

    count: int = 0
    oldest: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NodeLoad:
    """A node, and what its running tasks asked for. `silent` is in seconds; sizes are in bytes."""

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


@dataclass(frozen=True, kw_only=True)
class Running:
    """A task that runs. `age`, and `lease` until that runs out (below 0 when it has), are in seconds."""

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
    """What waits to run, by the class of its owner."""
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


def nodes() -> list[NodeLoad]:
    """Every node that there ever was, with what it does now."""
    at = now()
    used = {
        name: rest
        for name, *rest in Task.objects.filter(state=State.RUNNING)
        .order_by()
        .values_list("node")
        .annotate(n=Count("pk"), cpus=Sum("run__cpus"), memory=Sum("run__memory"), disk=Sum("run__disk"))
    }
    return [_load(node, used.get(node.name, [0, 0.0, 0, 0]), at) for node in Node.objects.order_by("name")]


def running(*, limit: int) -> list[Running]:
    """The tasks that run, the oldest first; at most `limit`."""
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
    """The deliveries of hooks that wait, also for another try."""
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
    )


def _classes(owners: list[int]) -> dict[int, str]:
    """The class of each user: what an administrator is and a developer too counts as administrator."""
    found: dict[int, str] = dict.fromkeys(owners, "user")
    developers = Developer.objects.filter(user__in=owners, state=Developer.State.VERIFIED)
    found |= dict.fromkeys(developers.values_list("user", flat=True), "developer")
    administrators = User.objects.filter(pk__in=owners, is_superuser=True)
    return found | dict.fromkeys(administrators.values_list("pk", flat=True), "administrator")
