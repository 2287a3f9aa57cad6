"""The `gridapps` command as a process, with a configuration directory of its own."""

import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import commands
from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance
from tests.fixtures.pointclouds import write_pointcloud

PROGRAM = Path(__file__).with_name("program.sh")
TERMINAL = {"COLUMNS": "120", "TERM": "xterm"}
COMMAND = Path(sys.executable).with_name("gridapps")
SCHEMA = {
    "type": "object",
    "properties": {
        "do": {"enum": ["write", "fail", "sleep", "odd"]},
        "word": {"type": "string", "default": "nothing"},
        "seconds": {"type": "integer", "minimum": 0, "default": 1},
    },
    "required": ["do"],
    "additionalProperties": False,
}
DESCRIPTION = {
    "title": "Test",
    "arguments": SCHEMA,
    "resources": {"cpus": 1.0, "memory": 64 * 1024**2, "disk": 32 * 1024**2, "time": 120},
}


@dataclass
class Ended:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What --json printed."""
        return json.loads(self.out)


@dataclass
class Shell:
    """A user's shell with the home directory `home`."""

    instance: Instance
    name: str
    token: str
    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        rest = {key: value for key, value in os.environ.items() if not key.startswith("GRIDAPPS_")}
        return {**rest, "GRIDAPPS_CONFIG": str(self.home / "config"), **TERMINAL, **self.variables}

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start `gridapps WORDS`, and do not wait for it."""
        return subprocess.Popen(
            [str(COMMAND), *words],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, *words: str, typed: str = "") -> Ended:
        """Run `gridapps WORDS` until it ends."""
        done = commands.run(
            "gridapps", *words, environment=self.environment, directory=self.home, typed=typed
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str, typed: str = "") -> Ended:
        """The same, for a command that must succeed."""
        done = self.run(*words, typed=typed)
        assert done.status == 0, f"gridapps {' '.join(words)}: {done.err}\n{self.instance.tail()}"
        return done

    def login(self) -> None:
        """Log in with the token."""
        self.must(
            "login", self.instance.url, "--ca", str(self.instance.ca), "--token-stdin", typed=self.token
        )

    def submit(self, app: str, export: str, *arguments: str) -> str:
        """Submit a run without waiting, and return its id."""
        words = [word for each in arguments for word in ("--argument", each)]
        return self.must("run", app, "--export", export, *words, "--detach").out.strip()


class Terminal:
    """`gridapps WORDS` on a pseudo-terminal, where keys are typed and the screen is read."""

    def __init__(self, shell: Shell, words: Sequence[str]) -> None:
        self.screen = ""
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.chdir(shell.home)
            os.execve(COMMAND, [str(COMMAND), *words], shell.environment)

    def wait_for(self, text: str, *, seconds: float = 60) -> None:
        """Read the screen until `text` is on it."""
        end = time.monotonic() + seconds
        while text not in self.screen:
            assert time.monotonic() < end, f"no {text!r} on the screen:\n{self.screen}"
            if select.select([self._master], [], [], 0.2)[0] and not self._read():
                break
        assert text in self.screen, self.screen

    def type(self, keys: str) -> None:
        """Press keys; `\\x03` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def close(self) -> int:
        """Read to the end, and return the exit status."""
        while self._read():
            pass
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # what Linux says when the other end is closed
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)


@dataclass(frozen=True)
class Bench:
    """A developer logged in, with the App `app`, an image for it, and an export of two files."""

    shell: Shell
    app: str
    image: str
    export: str


def new_shell(instance: Instance, name: str, *, developer: bool = False) -> Shell:
    unique = f"{name}-{uuid.uuid4().hex[:6]}"
    token = instance.user(unique, developer=developer)
    return Shell(instance, unique, token, Path(tempfile.mkdtemp(prefix=f"{name}-")))


def new_bench(instance: Instance, image: str) -> Bench:
    shell = new_shell(instance, "developer", developer=True)
    shell.login()
    app = f"app-{uuid.uuid4().hex[:8]}"
    (shell.home / "app.json").write_text(json.dumps({"id": app, **DESCRIPTION}))
    shell.must("app", "create", "app.json")
    shell.must("certificate", "create", "tests")
    files = [write_pointcloud(shell.home / f"{n}.laz", points=500, east=100.0 * n) for n in (1, 2)]
    return Bench(shell, app, image, instance.import_export(*files, owner=shell.name))


@pytest.fixture(scope="session")
def command_image(engine: Engine) -> str:
    """The image of program.sh."""
    return engine.image(entrypoint=["/program"], files={"/program": (PROGRAM.read_bytes(), 0o755)})


@pytest.fixture(scope="session")
def bench(instance: Instance, command_image: str) -> Bench:
    """In the shared instance; the image is pushed as v1."""
    made = new_bench(instance, command_image)
    made.shell.must("push", made.image, f"{made.app}:v1")
    return made


@pytest.fixture
def outsider(instance: Instance) -> Shell:
    """Another user, logged in."""
    made = new_shell(instance, "outsider")
    made.login()
    return made
