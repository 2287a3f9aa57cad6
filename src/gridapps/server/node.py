"""This machine as a node: its worker, as configured."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import timedelta

from gridapps.config.environment import Environment
from gridapps.housekeeping import output_files
from gridapps.server import launching
from gridapps.server.instance import identity
from gridapps.server.listener import Listener
from gridapps.storage.choice import current
from gridapps.worker.local_node import LocalNode
from gridapps.worker.node_images import NodeImages
from gridapps.worker.worker import Worker


@contextmanager
def worker_of(settings: Environment, *, say: Callable[[str], None]) -> Iterator[Worker]:
    """The worker of this machine, not started yet. Waits for its launcher."""
    data = settings.data.absolute()
    instance = identity(data)
    current()
    for secret in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(secret, None)  # the storage has read it, and child processes do not need it
    with closing(launching.remote_sandbox(settings)) as sandbox:
        capacity = launching.capacity(settings, held=launching.wait_for(sandbox, say=say))
        yield Worker(
            node=LocalNode(
                name=settings.node,
                instance=instance,
                sandbox=sandbox,
                images=NodeImages(
                    data / "images" / settings.node, sandbox=sandbox, limit=settings.node_images
                ),
                max_log=settings.max_log,
                max_output_files=settings.max_output_files,
            ),
            slots=capacity.slots,
            sweep=output_files.sweep,
            capacity=capacity,
            lease=timedelta(seconds=settings.lease),
            on_stop=settings.on_stop,
            lock=data / "run" / "worker" / f"{settings.node}.lock",
        )


def hearing(settings: Environment) -> AbstractContextManager[object]:
    """A context in which rings of other nodes reach this one, if there is a broker."""
    return Listener(node=settings.node) if settings.broker else nullcontext()
