"""This machine as a node: its worker, as the settings say."""

import os
from datetime import timedelta

from gridapps.config.environment import Environment
from gridapps.runs.execution import Node
from gridapps.runs.worker import Worker
from gridapps.server.engine import make_sandbox
from gridapps.server.instance import identity


def make_worker(settings: Environment) -> Worker:
    """The worker of this machine, not yet running."""
    data = settings.data.absolute()
    instance = identity(data)
    node = Node(
        name=settings.node,
        instance=instance,
        sandbox=make_sandbox(settings, instance=instance),
        max_log=settings.max_log,
    )
    return Worker(
        node=node,
        slots=settings.slots or os.cpu_count() or 1,
        lease=timedelta(seconds=settings.lease),
        on_stop=settings.on_stop,
        lock=data / "run" / f"{settings.node}.lock",
    )
