"""Nodes: what each has for tasks, and which worker may speak in a node's name.

One worker does at a time. On one machine a lock file sees to that; among machines the node's row does: it
holds the session of the worker that spoke last, and a worker elsewhere is refused until that one was silent
for a whole lease.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Value
from django.db.models.functions import Now

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.audit import record
from gridapps.runs.capacity import Capacity
from gridapps.runs.errors import NodeTaken
from gridapps.runs.models import Node


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A worker, as it introduces itself. `place` is the same for all workers that share one lock file."""

    node: str
    session: UUID
    place: str
    capacity: Capacity
    lease: timedelta


def register(speaker: Speaker) -> None:
    """Speak for the node from now on. Idempotent. Raises NodeTaken while a worker elsewhere does.

    A predecessor in the same place is dead for certain, because the lock is held; one elsewhere is taken for
    dead when it was silent for a lease.
    """
    said: dict[str, Any] = {
        **asdict(speaker.capacity),
        "session": speaker.session,
        "place": speaker.place,
        "version": version("gridapps"),
        "last_seen_at": Now(),
    }
    with transaction.atomic():
        rows = Node.objects.select_for_update()
        row, new = rows.get_or_create(name=speaker.node, defaults={**said, "started_at": Now()})
        if new or row.session == speaker.session:
            rows.filter(pk=speaker.node).update(**said)
            return
        elsewhere = rows.filter(pk=speaker.node, session__isnull=False).exclude(place=speaker.place)
        if elsewhere.filter(last_seen_at__gt=Now() - Value(speaker.lease)).exists():
            raise NodeTaken(
                f"Another machine or data directory has a worker of node {speaker.node!r}, which reported "
                f"less than {speaker.lease.total_seconds():.0f} s ago. Give each node a name of its own "
                "(GRIDAPPS_NODE), or wait for that time when the other one is gone."
            )
        rows.filter(pk=speaker.node).update(**said, started_at=Now())


def report(
    speaker: Speaker, *, engine_version: str, engine_latency: float | None, stuck: Sequence[str] = ()
) -> None:
    """Say that the node is alive. Raises NodeTaken when another worker speaks for it by now.

    `stuck` has a sentence for each container that the engine cannot remove.
    """
    alive = Node.objects.filter(pk=speaker.node, session=speaker.session).update(
        last_seen_at=Now(),
        engine_version=engine_version[:100],
        engine_latency=engine_latency,
        stuck="\n".join(stuck),
    )
    if not alive:
        register(speaker)


def set_draining(*, by: User, node: Node, draining: bool) -> bool:
    """Have a node claim no more tasks, or claim again; what runs there goes on. Whether that is new.

    Raises NotAnAdministrator.
    """
    permissions.require_administrator(by)
    with transaction.atomic():
        new = Node.objects.filter(pk=node.pk, draining=not draining).update(draining=draining)
        if new:
            (record.node_drained if draining else record.node_undrained)(by=by, node=node.pk)
    return bool(new)


def sign_off(speaker: Speaker) -> None:
    """Speak for the node no more: a worker elsewhere need not wait."""
    Node.objects.filter(pk=speaker.node, session=speaker.session).update(session=None, last_seen_at=Now())
