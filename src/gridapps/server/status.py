"""`gridapps-server status`: the state of the instance, as text or JSON.

When the database does not answer, the rest is shown.
"""

import time
from collections.abc import Container, Iterator
from dataclasses import asdict
from typing import Any

from gridapps.config.environment import Environment
from gridapps.pki import membership
from gridapps.processes import part_states
from gridapps.processes.leftovers import holders, is_free
from gridapps.sandbox.resources import shown

SHOWN = 20  # running tasks in the text
MOST = 5  # developers in the text
LATE = 60.0  # seconds after the end of a lease by which a worker gives the task back
OLD = 3600.0  # seconds; the tries of a delivery end earlier
_GIB = 1024**3


def examine(settings: Environment) -> dict[str, Any]:
    """The state as JSON. `database` is empty, or the reason why it does not answer."""
    found: dict[str, Any] = {
        "instance": settings.origin,
        "parts": _parts(settings),
        "silent_parts": _silent_parts(settings),
    }
    from django.db import Error

    from gridapps.runs import node_disk, overview

    try:
        found["disk"] = asdict(node_disk.free())
    except OSError as error:
        found["disk"] = {"fault": f"The disk cannot be examined: {error.strerror}."}

    try:
        found |= {
            "database": "",
            "queue": {name: asdict(waiting) for name, waiting in overview.queue().items()},
            "nodes": [asdict(node) for node in overview.nodes()],
            "running": [asdict(task) for task in overview.running(limit=1000)],
            "hooks": asdict(overview.hooks()),
            "images": _images(settings),
        }
    except Error as error:
        found["database"] = str(error).strip() or type(error).__name__
    found["faults"] = list(_faults(found))
    return found


def _faults(found: dict[str, Any]) -> Iterator[str]:
    """A sentence for each thing that keeps the instance from its work, or soon will."""
    yield from _faults_of_parts(found["parts"], found["silent_parts"])
    yield from _faults_of_disk("This machine", found["disk"])
    if found["database"]:
        yield f"The database does not answer: {found['database']}."
        return
    speaking = [node for node in found["nodes"] if node["speaks"]]
    if not speaking:
        yield "No node has a worker, so no task runs."
    for node in speaking:
        yield from _faults_of_node(node)
    if late := [task for task in found["running"] if task["lease"] < -LATE]:
        yield f"The leases of {_many(len(late))} have run out, and no worker gives them back."
    if found["hooks"]["oldest"] > OLD:
        yield f"A delivery of a hook waits for {_span(found['hooks']['oldest'])}: read log/courier.log."


def _faults_of_parts(parts: dict[str, bool], silent: dict[str, float]) -> Iterator[str]:
    if not parts:
        yield "No part was ever started in this data directory."
    for name, runs in parts.items():
        if not runs:
            yield f"The part {name} does not run: read log/{name}.log."
        elif name in silent:
            yield f"The part {name} has not answered for {_span(silent[name])}."


def _faults_of_node(node: dict[str, Any]) -> Iterator[str]:
    from gridapps.runs.overview import SILENT

    name = node["name"]
    if node["silent"] > SILENT:
        yield f"The worker of node {name} has not reported for {_span(node['silent'])}."
        return
    if node["engine_latency"] is None:
        yield f"The container engine of node {name} does not answer."
    yield from _faults_of_disk(f"Node {name}", {"free": node["free_disk"], "floor": node["min_free_disk"]})
    for sentence in node["stuck"]:
        yield f"A container is stuck on node {name}: {sentence}"


def _faults_of_disk(where: str, disk: dict[str, Any]) -> Iterator[str]:
    if fault := disk.get("fault"):
        yield fault
    elif disk["free"] is not None and disk["free"] < disk["floor"]:
        yield (
            f"{where} has {shown('disk', disk['free'])} of free disk, and {shown('disk', disk['floor'])} "
            "have to stay free: pushes, imports and new tasks are refused. Free some (docs/operations.md)."
        )


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The lines of the text."""
    yield f"Instance  {found['instance']}"
    for number, fault in enumerate(found["faults"] or ["All is well."]):
        yield f"{'' if number else 'State':10}{'FAULT: ' if found['faults'] else ''}{fault}"
    yield from _shown_parts(found["parts"], found["silent_parts"])
    if "free" in found["disk"]:
        yield f"Disk      {shown('disk', found['disk']['free'])} free"
    if found["database"]:
        yield f"Database  does not answer: {found['database']}"
        return
    yield "Database  answers"
    for name, waiting in found["queue"].items():
        oldest = f", the oldest for {_span(waiting['oldest'])}" if waiting["count"] else ""
        yield f"Queue     {name}: {waiting['count']} tasks wait{oldest}"
    yield from _shown_nodes(found["nodes"])
    yield f"Running   {_many(len(found['running']))}"
    for task in found["running"][:SHOWN]:
        late = "" if task["lease"] > 0 else ", its lease has run out"
        yield (
            f"          {task['task']}  {task['app']} of {task['user']} on {task['node']}, "
            f"attempt {task['attempt']}, {task['progress']:.0%}, for {_span(task['age'])}{late}"
        )
    if len(found["running"]) > SHOWN:
        yield f"          and {_many(len(found['running']) - SHOWN)} more"
    hooks = found["hooks"]
    oldest = f", the oldest for {_span(hooks['oldest'])}" if hooks["count"] else ""
    yield f"Hooks     {hooks['count']} deliveries wait{oldest}"
    yield from _shown_images(found["images"])


def _parts(settings: Environment) -> dict[str, bool]:
    """Each part that was started here, and whether it runs: a running part holds its lock file."""
    run = settings.data.absolute() / "run"
    if membership.load(settings.data.absolute()) is not None:
        # Taking the lock could keep a worker that starts from it.
        return {lock.stem: bool(holders(lock)) for lock in sorted((run / "worker").glob("*.lock"))}
    return {held.stem: not is_free(held) for held in sorted(run.glob("*.held"))}


def _silent_parts(settings: Environment) -> dict[str, float]:
    """The parts that do not answer, and for how many seconds."""
    states = part_states.read(settings.data.absolute())
    now = time.time()
    return {name: now - state.silent_since for name, state in states.items() if state.silent_since}


def _shown_parts(parts: dict[str, bool], silent: Container[str]) -> Iterator[str]:
    if not parts:
        yield "Parts     none was ever started in this data directory"
        return
    words = {name: "DOWN" if not up else "SILENT" if name in silent else "up" for name, up in parts.items()}
    yield "Parts     " + ", ".join(f"{name} {word}" for name, word in words.items())


def _images(settings: Environment) -> dict[str, Any]:
    """The disk used by both registries, and by each developer with images, largest first."""
    from gridapps.access.models import User
    from gridapps.pushes import disk, quota

    owners = User.objects.filter(apps__isnull=False).distinct()
    used = {owner.username: quota.used(owner) for owner in owners}
    return {
        "developer": disk.developers().total(),
        "trusted": disk.trusted().total(),
        "limit": settings.max_registry,
        "developers": dict(
            sorted(((who, size) for who, size in used.items() if size), key=lambda each: -each[1])
        ),
    }


def _shown_images(images: dict[str, Any]) -> Iterator[str]:
    limit = f" of {images['limit'] / _GIB:.1f}" if images["limit"] else ""
    yield f"Images    {images['developer'] / _GIB:.1f} GiB pushed, {images['trusted'] / _GIB:.1f} GiB shared"
    for who, size in list(images["developers"].items())[:MOST]:
        yield f"          {who}: {size / _GIB:.1f}{limit} GiB"


def _shown_nodes(nodes: list[dict[str, Any]]) -> Iterator[str]:
    if not nodes:
        yield "Nodes     none has reported yet"
    for node in nodes:
        engine = (
            "the engine does not answer"
            if node["engine_latency"] is None
            else f"engine {node['engine_latency'] * 1000:.0f} ms"
        )
        state = "" if node["speaks"] else ", stopped"
        yield (
            f"Node      {node['name']}: {node['running']}/{node['slots']} tasks, "
            f"{node['used_cpus']:g}/{node['cpus']:g} processors, "
            f"{node['used_memory'] / _GIB:.1f}/{node['memory'] / _GIB:.1f} GiB memory, "
            f"{node['used_disk'] / _GIB:.1f}/{node['disk'] / _GIB:.1f} GiB disk, {engine}, "
            f"seen {_span(node['silent'])} ago{state}{', draining' if node['draining'] else ''}"
        )
        for sentence in node["stuck"]:
            yield f"Stuck     on {node['name']}: {sentence}"


def _many(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _span(seconds: float) -> str:
    """A duration in its largest sensible unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
