"""The application on a loopback port, in a process and a data directory of its own."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass
class Server:
    """A running application without nginx: `X-Accel-Redirect` and TLS are left out."""

    url: str
    data: Path
    environment: dict[str, str]
    pid: int = 0

    def python(self, program: str) -> str:
        """Run a program in the application's environment, Django set up; what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{program}"],
            env=self.environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def client(self, token: str = "") -> httpx.Client:
        """A client that asks as if through nginx."""
        headers = {"X-Forwarded-Proto": "https", "Host": "localhost"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=90)


@contextmanager
def serving() -> Iterator[Server]:
    """Start the application on a free port, with an empty database; stop it in the end."""
    data = Path(tempfile.mkdtemp(prefix="api-"))
    for name in ("database", "incoming", "exports"):
        (data / name).mkdir()
    (data / "secret-key").write_text(secrets.token_hex(32))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GRIDAPPS_", "DJANGO_"))
    } | {
        "GRIDAPPS_DATA": str(data),
        "DJANGO_SETTINGS_MODULE": "gridapps.config.settings",
        "GRIDAPPS_PROCESSES": "1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", data, environment)
    server.python("from django.core.management import call_command; call_command('migrate', verbosity=0)")
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "gridapps.config.asgi:application", "--port", str(port),
             "--lifespan", "off", "--no-access-log", "--timeout-graceful-shutdown", "2"],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
    server.pid = process.pid
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 240
    while True:
        try:
            httpx.get(f"{server.url}/api/v3/openapi.json", headers={"Host": "localhost"}, timeout=5)
        except httpx.TransportError:
            assert process.poll() is None, (server.data / "log").read_text()
            assert time.monotonic() < until, (server.data / "log").read_text()
            time.sleep(0.1)
        else:
            return
