"""Ending a container: by signals through the engine, and by its control group where the engine fails."""

from gridapps.sandbox import processes
from gridapps.sandbox.containers import Containers
from gridapps.sandbox.ends import Ends, Phase
from gridapps.sandbox.protocol import ContainerStuck

_LAST_SECONDS = 10.0  # for init to end all processes and report


def stop(containers: Containers, ends: Ends, name: str, *, grace: float) -> None:
    """End all processes of a container. Does nothing if none runs."""
    try:
        ended = _signal(containers, ends, name, grace)
    except ContainerStuck:
        ended = False
    if not ended or processes.processes_of(containers.engine_id(name), group=containers.prepare()):
        force(containers, name)


def _signal(containers: Containers, ends: Ends, name: str, grace: float) -> bool:
    """TERM to all processes; then init kills them and reports; then init itself is killed. Whether the
    container has ended."""
    steps = [("USR1", _LAST_SECONDS), ("KILL", _LAST_SECONDS)]
    if grace > 0:
        steps.insert(0, ("TERM", grace))
    if ends.wait(name, timeout=0) is not Phase.RUNNING:
        return True
    for signal, seconds in steps:
        containers.engine.kill(containers.engine_name(name), signal)
        if ends.wait(name, timeout=seconds) is not Phase.RUNNING:
            return True
    return False


def force(containers: Containers, name: str) -> None:
    """End a container without the engine, and make sure that the engine starts nothing later.

    Raises ContainerStuck when its processes do not end.
    """
    space = containers.space(name)
    reported = space.end_report() is not None
    if not reported:
        space.spoil()
    grace = 0 if reported else _LAST_SECONDS
    if not processes.end(containers.engine_id(name), group=containers.prepare(), grace=grace):
        raise ContainerStuck(f"The processes of {name} were killed, but do not end.")
    if space.root.is_dir() and space.end_report() is None:
        space.forced.touch()
