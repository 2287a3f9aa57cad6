"""The floor of free disk: for submissions on the first machine, and for claims of tasks on each node."""

from pathlib import Path

from django.conf import settings

from gridapps.runs.models import Node, Run
from gridapps.storage import free_disk
from gridapps.storage.choice import current
from gridapps.storage.free_disk import FreeDisk


def free() -> FreeDisk:
    """The disk that tasks of this machine, their outputs and the database take. Raises OSError."""
    outputs = current().local("outputs")
    directories = [Path(settings.DATA), *([outputs] if outputs else [])]
    return free_disk.measure(*directories, floor=settings.GRIDAPPS.min_free_disk)


def require_free() -> None:
    """Raise DiskNearlyFull when this machine has less than the floor. Raises OSError."""
    if (found := free()).is_short:
        raise free_disk.nearly_full(found)


def why_waiting(run: Run) -> str:
    """Why no node may claim a task of this run: the disks of all that are large enough are nearly full.

    Empty when one of them may.
    """
    large = Node.objects.filter(
        session__isnull=False, cpus__gte=run.cpus, memory__gte=run.memory, disk__gte=run.disk
    )
    short = []
    for node in large.order_by("name"):
        found = disk_of(node)
        if found is None or not found.is_short:
            return ""
        short.append(f"the disk of node {node.name} is nearly full: {found}")
    return f"Waits: {'; '.join(short)}." if short else ""


def disk_of(node: Node) -> FreeDisk | None:
    """The disk that the node's worker reported last; None if it has not reported any."""
    if node.free_disk is None or node.min_free_disk is None:
        return None
    return FreeDisk(free=node.free_disk, floor=node.min_free_disk)
