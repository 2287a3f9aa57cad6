"""The parts of an instance: what each is started with, and how to see that it is ready."""

import os
import shutil
import signal
import sys
from pathlib import Path

from gridapps.config.environment import Environment
from gridapps.registry.authority import Authority
from gridapps.registry.disk import STORAGE
from gridapps.registry.tokens import Service
from gridapps.server import distribution, launching, nginx
from gridapps.server.instance import Unusable
from gridapps.server.supervise import Part, listens

# Debian puts some programs where an ordinary user's PATH does not look.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"])


def program(name: str) -> str:
    """Where a program is, or Unusable with what to install."""
    found = shutil.which(name, path=SEARCH)
    if not found:
        package = {"nginx": "nginx-light", "mkfs.ext4": "e2fsprogs"}.get(name, name)
        raise Unusable(f"{name} is not installed. As root: apt-get install {package}")
    return found


def parts(settings: Environment, *, works: bool) -> list[Part]:
    """All parts, in the order in which they start; launcher and worker only where this machine works."""
    data = settings.data.absolute()
    Authority.create_or_load(data / "authority", host=settings.host)
    own = {**os.environ, "GRIDAPPS_DATA": str(data), "PYTHONUNBUFFERED": "1"}
    found = [
        _registry(settings, Service.DEVELOPER),
        _registry(settings, Service.TRUSTED),
        Part(
            name="application",
            command=[
                sys.executable, "-m", "uvicorn", "gridapps.config.asgi:application",
                "--uds", str(data / "run" / "application.sock"), "--lifespan", "off", "--no-access-log",
                "--timeout-graceful-shutdown", "3", "--timeout-keep-alive", "75", "--no-server-header",
            ],
            environment=own,
            ready=lambda: listens(str(data / "run" / "application.sock")),
        ),
        Part(
            name="nginx",
            command=[program("nginx"), "-c", str(nginx.write(settings)), "-e", "stderr"],
            environment=nginx.clean_environment(),
            ready=lambda: listens((settings.listen, settings.port)),
            stop_signal=signal.SIGTERM,
        ),
        Part(
            name="courier",
            command=[sys.executable, "-m", "gridapps.server.cli", "courier"],
            environment=own,
            ready=lambda: any((data / "run").glob("*.courier")),
        ),
        Part(
            name="promoter",
            command=[sys.executable, "-m", "gridapps.server.cli", "promoter"],
            environment=own,
            ready=lambda: True,  # nothing waits for it: shares are rows
        ),
        Part(
            name="housekeeper",
            command=[sys.executable, "-m", "gridapps.server.cli", "housekeeper"],
            environment=own,
            ready=lambda: True,  # nor for this one
        ),
        Part(
            name="launcher",
            command=launching.configuration(settings, owner=os.geteuid()).command(sys.executable),
            environment=launching.clean_environment(),
            ready=lambda: launching.answers(settings),
        ),
        Part(
            name="worker",
            command=[sys.executable, "-m", "gridapps.server.cli", "worker", "--no-launcher"],
            environment=own,
            ready=lambda: _exists(data / "run" / f"{settings.node}.bell"),
        ),
    ]  # fmt: skip
    return [part for part in found if works or part.name not in ("launcher", "worker")]


def _registry(settings: Environment, service: Service) -> Part:
    return Part(
        name=STORAGE[service],
        command=[program("docker-registry"), "serve", str(distribution.write(settings, service))],
        environment=distribution.clean_environment(),
        ready=lambda: listens(("127.0.0.1", distribution.port(settings, service))),
    )


def _exists(path: Path) -> bool:
    return path.exists()
