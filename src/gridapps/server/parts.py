"""The parts of an instance: command, environment and account of each, and when it is ready."""

import os
import shutil
import sys

import msgspec

from gridapps.config import alive
from gridapps.config.environment import Environment
from gridapps.pki.tokens import Registry
from gridapps.pushes.disk import STORAGE
from gridapps.server import distribution, launching, layout, nginx, surroundings
from gridapps.server.accounts import Accounts
from gridapps.server.instance import Unusable
from gridapps.server.plan import Asks, Command, Listens, Makes, PlannedPart, Program, sealed

# Debian installs some programs outside an ordinary user's PATH.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])
# Give the group of the storage access to files that CNCF Distribution creates.
_UMASKS = {Registry.DEVELOPER: 0o007, Registry.TRUSTED: 0o027}
_APPLICATION_ASKED = f"HEAD {alive.PATH} HTTP/1.0\r\n\r\n"
# nginx expects TLS, and answers this with a redirect. Distribution answers it without a token.
_SERVER_ASKED = "HEAD / HTTP/1.0\r\n\r\n"
LEAST_FREE_PORT = 1024  # lower ports need a capability


def program(name: str) -> str:
    """The path of a program, or Unusable with what to install."""
    found = shutil.which(name, path=SEARCH)
    if not found:
        package = {"nginx": "nginx-light", "mkfs.ext4": "e2fsprogs"}.get(name, name)
        raise Unusable(f"{name} is not installed. As root: apt-get install {package}")
    return found


def parts(settings: Environment, accounts: Accounts, *, works: bool) -> list[PlannedPart]:
    """All parts in the order of their start. Without `works`, this machine has no launcher and no worker."""
    data = settings.data.absolute()
    bells = str(data / "run" / "bells")
    sockets = enumerate(map(str, layout.sockets(data, settings.processes)), 1)
    found = [
        _registry(settings, accounts, Registry.DEVELOPER),
        _registry(settings, accounts, Registry.TRUSTED),
        *(_application(settings, accounts, number, socket) for number, socket in sockets),
        _nginx(settings, accounts),
        _own(settings, accounts, "courier", Makes(bells, ".courier")),
        # No part needs these to be ready.
        *([_own(settings, accounts, "scanner", None)] if settings.scanner else ()),
        _own(settings, accounts, "promoter", None),
        _own(settings, accounts, "housekeeper", None),
        _own(settings, accounts, "importer", None),
    ]
    if works:
        rung = Makes(bells, f"{settings.node}.bell")
        found += [
            _launcher(settings, accounts),
            _own(settings, accounts, "worker", rung, words=["--no-launcher"]),
        ]
    layout.settle_files(data, accounts)
    return found


def _application(settings: Environment, accounts: Accounts, number: int, socket: str) -> PlannedPart:
    words = ["--socket", socket]
    part = _own(settings, accounts, "application", Listens(socket), number=number, words=words)
    return msgspec.structs.replace(part, asks=Asks(socket, _APPLICATION_ASKED))


def _launcher(settings: Environment, accounts: Accounts) -> PlannedPart:
    configuration = launching.configuration(settings, owner=accounts.uid("worker"))
    socket = str(launching.socket_of(settings))
    return PlannedPart(
        name="launcher",
        runs=Program(
            command=list(configuration.command(sys.executable)), environment=launching.clean_environment()
        ),
        ready=Listens(socket, packets=True),
        account=None,
        asks=Asks(socket),
    )


def _own(
    settings: Environment,
    accounts: Accounts,
    role: str,
    ready: Listens | Makes | None,
    *,
    words: list[str] | None = None,
    number: int = 0,
) -> PlannedPart:
    """A part that is a command of this program. `number` tells several processes of one part apart."""
    account = accounts.found.get(role)
    return PlannedPart(
        name=f"{role}-{number}" if number else role,
        runs=Command(
            words=[role, *(words or [])],
            environment=sealed(surroundings.environment_of_part(role, settings, account=account)),
        ),
        ready=ready,
        account=account,
    )


def _nginx(settings: Environment, accounts: Accounts) -> PlannedPart:
    starts_as_root = os.geteuid() == 0 and "nginx" not in accounts.found
    written = nginx.write(settings, user="root root" if starts_as_root else "")
    return PlannedPart(
        name="nginx",
        runs=Program(
            command=[program("nginx"), "-e", "stderr", "-c", str(written)],
            environment=dict(nginx.clean_environment()),
            capabilities=["net_bind_service"] if settings.port < LEAST_FREE_PORT else [],
        ),
        ready=Listens((settings.listen, settings.port)),
        account=accounts.found.get("nginx"),
        asks=Asks((settings.listen, settings.port), _SERVER_ASKED),
    )


def _registry(settings: Environment, accounts: Accounts, service: Registry) -> PlannedPart:
    name = STORAGE[service]
    return PlannedPart(
        name=name,
        runs=Program(
            command=[program("docker-registry"), "serve", str(distribution.write(settings, service))],
            environment=dict(distribution.clean_environment()),
        ),
        ready=Listens(("127.0.0.1", distribution.port(settings, service))),
        account=accounts.found.get(name),
        asks=Asks(("127.0.0.1", distribution.port(settings, service)), _SERVER_ASKED),
        umask=_UMASKS[service] if accounts.found else 0o077,
        shares_storage=service is Registry.DEVELOPER,
    )
