"""A machine as administrators have it: Debian 13 with systemd, cgroup v2, and the units of deploy/."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.vm.machine import Machine, booted

TOP = Path(__file__).parents[2]
CLIENT = Path(sys.executable).with_name("gridapps")
DATA = "/var/lib/gridapps"
# Requests of the client take longer than its patience when the machine is emulated.
PATIENCE = 6 * 3600.0  # seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("VM") != "all":
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason="only in the soak"))


def documented(*, page: str, heading: str) -> list[str]:
    """The blocks of commands below a heading of a page, in order."""
    section = (TOP / "docs" / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks]


@pytest.fixture(scope="session")
def bare() -> Iterator[Machine]:
    """The machine before the installation."""
    with booted() as machine:
        yield machine


@pytest.fixture(scope="session")
def machine(bare: Machine) -> Machine:
    """The machine with a running instance, installed as docs/cluster.md says."""
    files, start = documented(page="cluster.md", heading="One machine under systemd")
    bare.does(f"cd /opt/gridapps/deploy\nset -e\n{files}")
    settings = f"GRIDAPPS_DATA={DATA}\nGRIDAPPS_HOST=localhost\nGRIDAPPS_PORT={bare.port}\n"
    bare.does("cat > /etc/gridapps/server.env", given=f"{settings}GRIDAPPS_LISTEN=0.0.0.0\n")
    bare.does("cat > /etc/gridapps/node.env", given=f"{settings}GRIDAPPS_ON_STOP=leave\n")
    bare.does(f"PATH=/opt/gridapps/bin:$PATH\nset -e\n{start}")
    bare.until("journalctl -u gridapps | grep 'GRiD Apps is up'")
    bare.until(server("status"))
    return bare


def server(words: str) -> str:
    """A command of the server in the machine, with the settings of its first machine."""
    return f"set -a; . /etc/gridapps/server.env; /opt/gridapps/bin/gridapps-server {words}"


@dataclass
class Developer:
    """A developer on this machine, who uses the instance in the other one."""

    machine: Machine
    home: Path

    def call(self, *words: str | Path, expect: int = 0, given: str = "") -> Any:
        """The JSON that a command of the client prints."""
        home = {"HOME": str(self.home), "GRIDAPPS_CONFIG": f"{self.home}/config"}
        done = subprocess.run(
            [CLIENT, "--json", *words], input=given, env={"PATH": os.environ["PATH"], **home}, text=True,
            check=False, timeout=PATIENCE, capture_output=True,
        )  # fmt: skip
        assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def app(self, name: str, image: str, *options: str) -> None:
        """Create an App and push its image."""
        self.call("app", "create", name, "--title", name, *options)
        self.call("push", image, f"{name}:1")

    def upload(self, file: Path) -> str:
        """A new export of one file; its pk."""
        self.call("exports", "upload", file, "--name", file.stem)
        return str(self.call("exports", "list")["exports"][0]["pk"])

    def submit(self, app: str, export: str, *options: str) -> str:
        """Run an App on an export; the run's id."""
        return str(self.call("run", app, "--export", export, "--detach", *options)["runs"][0]["id"])

    def ended(self, run: str) -> dict[str, Any]:
        """A run, when it has ended."""
        while True:
            found = self.call("runs", "show", run)["runs"][0]
            if found["state"] not in {"QUEUED", "RUNNING"}:
                return dict(found)
            time.sleep(5)

    def output(self, run: str, path: str) -> str:
        """The content of an output of the run's only task."""
        got = self.call("outputs", "get", run, f"0/{path}", "--to", self.home / run)["files"]
        return Path(got[0]["file"]).read_text()


@pytest.fixture(scope="session")
def developer(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Developer:
    """A developer with a certificate."""
    home = tmp_path_factory.mktemp("developer")
    made = Developer(machine, home)
    machine.does(server("user create dora"))
    machine.does(server("user verify dora"))
    token = machine.does(server("token dora")).strip()
    ca = home / "ca.crt"
    ca.write_text(machine.does(f"cat {DATA}/authority/ca.crt"))
    made.call("login", f"https://localhost:{machine.port}", "--ca", ca, "--token-stdin", given=token)
    made.call("certificate", "create", "laptop")
    return made
