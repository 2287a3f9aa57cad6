"""The parts of an instance: what each is started with, its account, and how to see that it is ready."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gridapps.config.environment import Environment
from gridapps.registry.disk import NOTE, STORAGE, note_opened
from gridapps.registry.tokens import Service
from gridapps.server import distribution, launching, layout, nginx, surroundings
from gridapps.server.accounts import Accounts
from gridapps.server.instance import Unusable
from gridapps.server.supervise import Part, listens

# Debian puts some programs where an ordinary user's PATH does not look.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])
# CNCF Distribution makes its files itself: this is how the group of its storage gets at them.
_UMASKS = {Service.DEVELOPER: 0o007, Service.TRUSTED: 0o027}


def program(name: str) -> str:
    """Where a program is, or Unusable with what to install."""
    found = shutil.which(name, path=SEARCH)
    if not found:
        package = {"nginx": "nginx-light", "mkfs.ext4": "e2fsprogs"}.get(name, name)
        raise Unusable(f"{name} is not installed. As root: apt-get install {package}")
    return found


def parts(settings: Environment, accounts: Accounts, *, works: bool) -> list[Part]:
    """All parts, in the order in which they start; launcher and worker only where this machine works."""
    data = settings.data.absolute()
    socket = str(data / layout.SOCKET)
    uvicorn = [
        sys.executable, "-m", "uvicorn", "gridapps.config.asgi:application", "--uds", socket,
        "--lifespan", "off", "--no-access-log", "--timeout-graceful-shutdown", "3",
        "--timeout-keep-alive", "75", "--no-server-header",
    ]  # fmt: skip
    nginx_starts_as_root = os.geteuid() == 0 and "nginx" not in accounts.found
    bells = data / "run" / "bells"
    found = [
        _registry(settings, accounts, Service.DEVELOPER),
        _registry(settings, accounts, Service.TRUSTED),
        _own(settings, accounts, "application", lambda: listens(socket), uvicorn),
        Part(
            name="nginx",
            command=[
                program("nginx"), "-e", "stderr",
                "-c", str(nginx.write(settings, user="root root" if nginx_starts_as_root else "")),
            ],
            environment=nginx.clean_environment(),
            ready=lambda: listens((settings.listen, settings.port)),
            stop_signal=signal.SIGTERM,
            account=accounts.found.get("nginx"),
            capabilities=("net_bind_service",) if settings.port < LEAST_FREE_PORT else (),
        ),
        _own(settings, accounts, "courier", lambda: any(bells.glob("*.courier"))),
        _own(settings, accounts, "promoter", lambda: True),  # nothing waits for it: shares are rows
        _own(settings, accounts, "housekeeper", lambda: True),  # nor for this one
        Part(
            name="launcher",
            command=launching.configuration(settings, owner=accounts.uid("worker")).command(sys.executable),
            environment=launching.clean_environment(),
            ready=lambda: launching.answers(settings),
        ),
        _own(
            settings, accounts, "worker", (bells / f"{settings.node}.bell").exists,
            [sys.executable, "-m", "gridapps.server.cli", "worker", "--no-launcher"],
        ),
    ]  # fmt: skip
    layout.settle_files(data, accounts)
    return [part for part in found if works or part.name not in ("launcher", "worker")]


LEAST_FREE_PORT = 1024  # below it, listening is a privilege


def _own(
    settings: Environment,
    accounts: Accounts,
    name: str,
    ready: Callable[[], bool],
    command: list[str] | None = None,
) -> Part:
    """A part that is a command of this program."""
    account = accounts.found.get(name)
    return Part(
        name=name,
        command=command or [sys.executable, "-m", "gridapps.server.cli", name],
        environment=surroundings.of_part(name, settings, account=account),
        ready=ready,
        account=account,
    )


def _look_after_pushes(process: int, *, data: Path, accounts: Accounts) -> None:
    """What only the supervisor can do for those who share the developer registry's storage."""
    note_opened(process, data / NOTE, group=accounts.gid("registry"))
    if (asked := data / layout.OPEN_BLOBS).exists():
        layout.open_blobs(data / STORAGE[Service.DEVELOPER], accounts)
        asked.unlink(missing_ok=True)


def _registry(settings: Environment, accounts: Accounts, service: Service) -> Part:
    name, data = STORAGE[service], settings.data.absolute()
    return Part(
        name=name,
        command=[program("docker-registry"), "serve", str(distribution.write(settings, service))],
        environment=distribution.clean_environment(),
        ready=lambda: listens(("127.0.0.1", distribution.port(settings, service))),
        account=accounts.found.get(name),
        umask=_UMASKS[service] if accounts.found else 0o077,
        look=partial(_look_after_pushes, data=data, accounts=accounts)
        if service is Service.DEVELOPER
        else None,
    )
