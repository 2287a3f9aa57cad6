"""The plan that the supervisor of an instance receives: its parts, without their secrets.

`up` prepares everything with all settings and then becomes the supervisor (`execute`), which has no secret.
The environment of each forked part is in an anonymous file, which only that part reads.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping

import msgspec

from gridapps.server.accounts import Account, Accounts

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # they stop the instance


class Program(msgspec.Struct, frozen=True, tag=True):
    """A part that is another program."""

    command: list[str]
    environment: dict[str, str]
    capabilities: list[str] = []  # kept under its account


class Command(msgspec.Struct, frozen=True, tag=True):
    """A part that is a command of this program, forked from the supervisor."""

    words: list[str]  # after `gridapps-server`
    environment: int  # file descriptor


class Listens(msgspec.Struct, frozen=True, tag=True):
    """Ready when it accepts connections at a TCP address, or at a unix socket of streams or of packets."""

    address: tuple[str, int] | str
    packets: bool = False


class Makes(msgspec.Struct, frozen=True, tag=True):
    """Ready when the directory has a file whose name has this ending."""

    directory: str
    ending: str


class Asks(msgspec.Struct, frozen=True):
    """What a part that works answers within moments: a request, or without one the end of a connection."""

    address: tuple[str, int] | str  # TCP, or a unix socket: of packets, if there is no request
    request: str = ""


class PlannedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A child process of the instance."""

    name: str
    runs: Program | Command
    ready: Listens | Makes | None  # None: the next part does not wait for it
    account: Account | None  # None: the supervisor's
    umask: int = 0o077
    asks: Asks | None = None  # how to find out whether it hangs
    shares_storage: bool = False  # the registry whose storage other parts write too


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the supervisor of an instance needs."""

    data: str
    lock: int  # file descriptor of the instance's lock
    origin: str
    min_free_disk: int  # bytes; 0: none
    part_timeout: int  # seconds without an answer after which a part is started again; 0: never
    accounts: Accounts
    parts: list[PlannedPart]


def sealed(environment: Mapping[str, str]) -> int:
    """A file descriptor from which `unsealed` reads the environment in a process that inherits it."""
    return _in_memory(json.dumps(dict(environment)).encode())


def unsealed(descriptor: int) -> dict[str, str]:
    """The environment. Each start of the part reads it."""
    return dict(json.loads(_whole(descriptor)))


def execute(plan: Plan, environment: Mapping[str, str]) -> None:
    """Become the supervisor. SIGNALS must be blocked, so that it also handles those that are pending.

    -P keeps modules of the working directory, which others may write, from being imported.
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
    """Read the plan in the supervisor, and keep its children from inheriting any open descriptor."""
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
