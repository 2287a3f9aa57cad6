"""What the supervisor of an instance is told: its parts, without their secrets.

`up` prepares everything with all settings and then becomes the supervisor (`execute`), which knows none. The
environment of each part that is forked from the supervisor lies in a file without a name, which that part
alone reads.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping

import msgspec

from gridapps.server.accounts import Account, Accounts

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # that stop the instance


class Program(msgspec.Struct, frozen=True, tag=True):
    """A part that is a program."""

    command: list[str]
    environment: dict[str, str]
    capabilities: list[str] = []  # that it keeps under its account


class Command(msgspec.Struct, frozen=True, tag=True):
    """A part that is a command of this program, forked from the supervisor."""

    words: list[str]  # of `gridapps-server`
    environment: int  # file descriptor


class Listens(msgspec.Struct, frozen=True, tag=True):
    """Ready when it accepts connections at a TCP address, or at a unix socket of streams or of packets."""

    address: tuple[str, int] | str
    packets: bool = False


class Makes(msgspec.Struct, frozen=True, tag=True):
    """Ready when a file whose name ends so is in the directory."""

    directory: str
    ending: str


class PlannedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A child process of the instance."""

    name: str
    runs: Program | Command
    ready: Listens | Makes | None  # None: nothing waits for it
    account: Account | None  # None: what the supervisor runs under
    umask: int = 0o077
    shares_storage: bool = False  # the registry whose storage others write as well


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the supervisor of an instance is told."""

    data: str
    lock: int  # file descriptor of the lock that the instance holds
    origin: str
    accounts: Accounts
    parts: list[PlannedPart]


def sealed(environment: Mapping[str, str]) -> int:
    """A file descriptor from which `unsealed` reads an environment, in any process that inherits it."""
    return _in_memory(json.dumps(dict(environment)).encode())


def unsealed(descriptor: int) -> dict[str, str]:
    """The environment. It can be read again by a part that is started again."""
    return dict(json.loads(_whole(descriptor)))


def execute(plan: Plan, environment: Mapping[str, str]) -> None:
    """Become the supervisor. SIGNALS have to be blocked: it listens to them, and to those that came before.

    Modules of the working directory are not found (-P): anybody may have put them there.
    """
    for part in plan.parts:
        if isinstance(part.runs, Command):
            os.set_inheritable(part.runs.environment, True)
    os.set_inheritable(plan.lock, True)
    descriptor = _in_memory(msgspec.json.encode(plan))
    os.set_inheritable(descriptor, True)
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-P", "-m", "gridapps.server.supervisor", str(descriptor)]
    os.execve(command[0], command, dict(environment))  # noqa: S606 - it takes this process's place


def read(descriptor: int) -> Plan:
    """The plan, in the supervisor. Programs that it starts inherit no descriptor, not even the operator's."""
    plan = msgspec.json.decode(_whole(descriptor), type=Plan)
    os.close(descriptor)
    for inherited in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names
        if inherited > 2:
            with contextlib.suppress(OSError):  # the listing's own
                os.set_inheritable(inherited, False)
    return plan


def _in_memory(content: bytes) -> int:
    descriptor = os.memfd_create("gridapps")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
