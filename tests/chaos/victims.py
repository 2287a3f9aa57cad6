"""What is killed, and what an operator or a service manager does afterwards. The tests do nothing that the
instance must do by itself."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.rig import LEASE, Rig


def _nothing(_rig: Rig) -> None:
    """The instance recovers by itself."""


@dataclass(frozen=True)
class Victim:
    """How something is killed, and what is done from outside afterwards."""

    kill: Callable[[Rig], None]
    recover: Callable[[Rig], None] = _nothing


def _part(name: str) -> Callable[[Rig], None]:
    return lambda rig: os.kill(rig.instance.part(name), signal.SIGKILL)


def _worker_with_children(rig: Rig) -> None:
    os.killpg(rig.instance.part("worker"), signal.SIGKILL)


def _kill_postgresql(rig: Rig) -> None:
    assert rig.cluster is not None
    rig.cluster.stop()


def _start_postgresql(rig: Rig) -> None:
    assert rig.cluster is not None
    rig.cluster.resume()


def _start_postgresql_late(rig: Rig) -> None:
    time.sleep(LEASE + 2)
    _start_postgresql(rig)


def _kill_broker(rig: Rig) -> None:
    assert rig.broker is not None
    rig.broker.kill()


def _start_broker(rig: Rig) -> None:
    assert rig.broker is not None
    time.sleep(1)
    rig.broker.start()


def _start_engine(rig: Rig) -> None:
    time.sleep(0.5)
    rig.engine.start()


VICTIMS: dict[str, Victim] = {
    "worker": Victim(_part("worker")),
    "worker and its children": Victim(_worker_with_children),
    "launcher": Victim(_part("launcher")),
    "application": Victim(_part("application")),
    "nginx": Victim(_part("nginx")),
    "registry": Victim(_part("registry")),
    "broker": Victim(_kill_broker, _start_broker),
    "PostgreSQL": Victim(_kill_postgresql, _start_postgresql),
    "PostgreSQL, longer than a lease": Victim(_kill_postgresql, _start_postgresql_late),
    "engine": Victim(lambda rig: rig.engine.kill(), _start_engine),
    "engine with live-restore": Victim(lambda rig: rig.engine.kill(), _start_engine),
    "everything": Victim(lambda rig: rig.kill_everything(), lambda rig: rig.start_everything()),
}
