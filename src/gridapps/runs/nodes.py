"""Nodes: the capacity of each, and which worker may act for it.

One worker acts for a node at a time. On one machine a lock file ensures that. Among machines the node's row
does: it holds the session of the worker that reported last, and a worker elsewhere is refused until that one
has been silent for a lease.
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
from gridapps.storage.free_disk import FreeDisk


@dataclass(frozen=True, kw_only=True)
class Speaker:
    """A worker that acts for a node. `place` is the same for all workers that share one lock file."""

    node: str
    session: UUID
    place: str
    capacity: Capacity
    lease: timedelta


def register(speaker: Speaker) -> None:
    """Let this worker act for the node. Idempotent. Raises NodeTaken while a worker elsewhere acts for it.

    An earlier worker in the same place has ended, because the lock is held. One elsewhere counts as ended
    once it has been silent for a lease.
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
    speaker: Speaker,
    *,
    engine_version: str,
    engine_latency: float | None,
    stuck: Sequence[str] = (),
    free: FreeDisk | None = None,
) -> None:
    """Report that the node is alive. Raises NodeTaken when another worker acts for it now.

    `stuck` has a sentence for each container that the engine cannot remove. `free`: None if not measured yet.
    """
    alive = Node.objects.filter(pk=speaker.node, session=speaker.session).update(
        last_seen_at=Now(),
        engine_version=engine_version[:100],
        engine_latency=engine_latency,
        stuck="\n".join(stuck),
        free_disk=free.free if free else None,
        min_free_disk=free.floor if free else None,
    )
    if not alive:
        register(speaker)


def set_draining(*, by: User, node: Node, draining: bool) -> bool:
    """Let a node claim no more tasks, or claim again; running tasks go on. Returns whether that changed.

    Raises NotAnAdministrator.
    """
    permissions.require_administrator(by)
    with transaction.atomic():
        new = Node.objects.filter(pk=node.pk, draining=not draining).update(draining=draining)
        if new:
            (record.node_drained if draining else record.node_undrained)(by=by, node=node.pk)
    return bool(new)


def sign_off(speaker: Speaker) -> None:
    """Stop acting for the node, so that a worker elsewhere need not wait for a lease."""
    Node.objects.filter(pk=speaker.node, session=speaker.session).update(session=None, last_seen_at=Now())
