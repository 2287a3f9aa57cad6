"""A network of nodes on one machine: namespaces with an engine and a worker each, and a link that can be cut.

The network is a bridge. The first machine has the bridge's address and the namespaces of the tests. Each node
has its own network and mount namespace: it reaches the others only through its link, and its engine has
separate certificates in /etc/docker.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import docker

from tests.fixtures.instance import SERVER, Instance
from tests.fixtures.own_engine import OwnEngine

PATIENCE = 240.0  # seconds, on a busy machine


def run(*words: str) -> str:
    """Run a command that must succeed; return its output."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@dataclass
class Network:
    """A bridge with an address, 10.x.y.1."""

    name: str = field(default_factory=lambda: f"gt{secrets.token_hex(4)}")
    prefix: str = field(default_factory=lambda: f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}")

    @property
    def address(self) -> str:
        return f"{self.prefix}.1"

    def __enter__(self) -> "Network":
        run("ip", "link", "add", self.name, "type", "bridge")
        run("ip", "address", "add", f"{self.address}/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        return self

    def __exit__(self, *_: object) -> None:
        run("ip", "link", "delete", self.name)


class Machine:
    """A node: namespaces, a link, an engine, a worker."""

    def __init__(self, name: str, *, network: Network, number: int, first: Instance) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=f"node-{name}-"))
        self.data = self.directory / "data"
        self._network = network
        self._wire = f"{network.name}{number}"
        self._first = first
        (self.directory / "docker").mkdir()
        bind = f"mount --bind {self.directory}/docker /etc/docker && ip link set lo up && exec sleep infinity"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", bind], start_new_session=True
        )
        self._until(lambda: self._mounts().find(" /etc/docker ") > 0, what="in its namespaces")
        self._inside = ("nsenter", "-t", str(self._holder.pid), "--mount", "--net", "--")
        far = f"{self._wire}n"
        run("ip", "link", "add", self._wire, "type", "veth", "peer", far, "netns", str(self._holder.pid))
        run("ip", "link", "set", self._wire, "master", network.name, "up")
        run(*self._inside, "ip", "address", "add", f"{network.prefix}.{10 + number}/24", "dev", far)
        run(*self._inside, "ip", "link", "set", far, "up")
        self.engine = OwnEngine(self.directory / "e", inside=self._inside)
        self.engine.directory.mkdir()
        self.worker: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        shared = ("DATABASE", "BROKER", "STORAGE", "LEASE")
        rest = {
            key: value for key, value in os.environ.items() if not key.startswith(("GRIDAPPS_", "DJANGO_"))
        }
        return {
            **rest,
            **{f"GRIDAPPS_{name}": self._first.settings[f"GRIDAPPS_{name}"] for name in shared},
            "GRIDAPPS_DATA": str(self.data),
            "GRIDAPPS_ENGINE": self.engine.address,
            "GRIDAPPS_SLOTS": "3",
        }

    def join(self) -> None:
        """Become a node of the first machine's instance, with a new certificate."""
        add = [str(SERVER), "node", "add", self.name]
        made = subprocess.run(add, env=self._first.environment, check=True, capture_output=True)
        self.command("node", "join", "-", given=made.stdout)

    def command(self, *words: str, given: bytes = b"") -> str:
        """Run a command of `gridapps-server` that must succeed on this machine; return its output."""
        command = [*self._inside, str(SERVER), *words]
        done = subprocess.run(command, env=self.environment, input=given, capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def start(self) -> None:
        """Start engine and worker."""
        if self.engine.process is None or self.engine.process.poll() is not None:
            self.engine.start()
        self.start_worker()

    def start_worker(self) -> None:
        command = [*self._inside, str(SERVER), "worker", "--node", self.name]
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._until((self.data / "run" / "bells" / f"{self.name}.bell").exists, what="working")

    def stop_worker(self) -> None:
        if self.worker is not None:
            self.worker.terminate()
            self.worker.wait(PATIENCE)
            self.worker = None

    def kill(self) -> None:
        """kill -9 of the worker with its children, of the engine and of every container."""
        assert self.worker is not None
        with contextlib.closing(docker.APIClient(self.engine.address)) as client:
            running = [client.inspect_container(row["Id"])["State"]["Pid"] for row in client.containers()]
        for pid in self._processes():  # all at once: a process that outlives its parent would tidy up
            with contextlib.suppress(OSError):
                if b"gridapps" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        self.worker.wait()
        (self.data / "run" / "bells" / f"{self.name}.bell").unlink()
        self.engine.kill()
        for pid in (*self._processes(), *running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        """Cut the link."""
        run("ip", "link", "set", self._wire, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self._wire, "up")

    @property
    def log(self) -> Path:
        return self.directory / "worker.log"

    def containers(self) -> list[str]:
        """The names of the engine's containers, running or not."""
        with contextlib.closing(docker.APIClient(self.engine.address)) as client:
            return sorted(name for row in client.containers(all=True) for name in row["Names"])

    def leftovers(self) -> list[str]:
        """Containers, workspaces and mounts of attempts."""
        spaces = [path.name for path in (self.data / "scratch").iterdir()]
        scratch = str(self.data / "scratch")
        mounts = [line for line in self._mounts().splitlines() if scratch in line]
        return [*self.containers(), *spaces, *mounts]

    def remove(self) -> None:
        """End all of its processes and delete its files."""
        if self.worker is not None and self.worker.poll() is None:
            self.stop_worker()
        self.engine.stop()
        for pid in (*self._processes(), self._holder.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._holder.wait()  # the link is removed with the namespace
        subprocess.run(["rm", "-rf", str(self.directory)], check=True)

    def _processes(self) -> list[int]:
        """The processes in its mount namespace, except the one that holds it."""
        mine = Path(f"/proc/{self._holder.pid}/ns/mnt").readlink()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "ns" / "mnt").readlink() == mine and int(entry.name) != self._holder.pid:
                    found.append(int(entry.name))
        return found

    def _mounts(self) -> str:
        return Path(f"/proc/{self._holder.pid}/mounts").read_text()

    def _until(self, condition: Callable[[], bool], *, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            said = self.log.read_text()[-2000:] if self.log.exists() else ""
            assert time.monotonic() < end, f"node {self.name} is not {what}\n{said}"
            time.sleep(0.1)
