"""A campaign: a separate instance, a hostile image, and a run of each of its faults, submitted at once."""

import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gridapps.server.instance import identity
from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.leftovers import mounts_below
from tests.fixtures.people import RESOURCES, Person
from tests.fixtures.pointclouds import write_pointcloud
from tests.hostile.faults import FAULTS, Fault

SOURCE = Path(__file__).with_name("hostile.c")
MAX_LOG = 10 * 1024**2  # the default of an instance, which floods reach
MAX_OUTPUT_FILES = 10_000
SLOTS = 4
FORGED = [
    "USER root",
    "VOLUME /tmp",
    "WORKDIR /bin",
    "EXPOSE 22",
    'HEALTHCHECK CMD ["/hostile"]',
    "ONBUILD RUN /hostile",
    "ENV GRID_OUTPUT=/etc LD_PRELOAD=/hostile HOME=/root",
    "LABEL gridapps.instance=other gridapps.deadline=2999-01-01T00:00:00Z gridapps.name=../../etc",
]


@dataclass(frozen=True)
class Host:
    """What a hostile App must not change on the host. Bytes are those of the instance's disk."""

    processes: int  # in the instance's control group
    loops: int
    containers: int
    mounts: int
    disk: int

    @classmethod
    def look(cls, instance: Instance, engine: Engine) -> "Host":
        group = f"gridapps-{identity(instance.data)}/"
        owners = [process for process in Path("/proc").glob("[0-9]*") if _is_in(process, group)]
        containers = engine.client.containers(all=True)
        return cls(
            processes=len(owners),
            loops=len([line for line in _loops().splitlines() if str(instance.data) in line]),
            containers=len([row for row in containers if _mounts_of(row, instance)]),
            mounts=len(mounts_below(str(instance.data))),
            disk=shutil.disk_usage(instance.data).used,
        )


def _is_in(process: Path, group: str) -> bool:
    try:
        return f"/{group}" in (process / "cgroup").read_text()
    except OSError:
        return False


def _mounts_of(row: dict[str, Any], instance: Instance) -> bool:
    return any(mount.get("Source", "").startswith(f"{instance.data}/") for mount in row["Mounts"])


def _loops() -> str:
    words = ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@dataclass
class Campaign:
    """The runs of all faults. `ended` waits for one."""

    instance: Instance
    developer: Person
    app: str
    export: str
    file: Path
    before: Host
    engine: Engine
    runs: dict[str, str] = field(default_factory=dict)
    _shown: dict[str, dict[str, Any]] = field(default_factory=dict)

    def submit(self, fault: Fault, **arguments: object) -> str:
        resources = {**RESOURCES, "time": fault.time, "disk": fault.disk, "memory": fault.memory}
        arguments = {"do": fault.name, **arguments}
        return self.developer.submit(self.app, self.export, arguments=arguments, resources=resources)

    def ended(self, name: str) -> dict[str, Any]:
        """The run of a fault, when it has ended, with its only task as `task`."""
        if name not in self._shown:
            shown = self.developer.wait(self.runs[name], seconds=900)
            [shown["task"]] = shown["tasks"]
            self._shown[name] = shown
        return self._shown[name]

    def outputs(self, name: str) -> dict[str, int]:
        """The outputs of a fault: path -> size."""
        self.ended(name)
        found: dict[str, int] = {}
        after = ""
        while True:
            path = f"/runs/{self.runs[name]}/outputs?limit=1000" + (f"&after={after}" if after else "")
            answer = self.developer.ask("GET", path).json()
            found |= {output["path"].removeprefix("0/"): output["size"] for output in answer["outputs"]}
            after = answer.get("next", "")
            if not after:
                return found

    def log(self, name: str) -> list[str]:
        """The texts of the lines of its log."""
        self.ended(name)
        lines = self.developer.log(self.runs[name]).splitlines()
        return [line.split(" ", 2)[2] if line.count(" ") > 1 else "" for line in lines]

    def stored(self, name: str) -> Path:
        """The directory of its outputs."""
        return self.instance.data / "outputs" / self.runs[name] / "0" / "1" / "files"

    def tried(self, name: str) -> dict[str, str]:
        """What it tried -> the result, as it printed them."""
        self.ended(name)
        text = self.developer.output(self.runs[name], "0/stdout.txt").decode()
        return dict(line.rsplit(" ", 1) for line in text.splitlines())


@pytest.fixture(scope="session")
def hostile_image(engine: Engine) -> str:
    """The image of hostile.c, with every setting by which an image could try to gain rights."""
    program = Path(tempfile.mkdtemp(prefix="hostile-")) / "hostile"
    subprocess.run(["gcc", "-static", "-O1", "-o", str(program), str(SOURCE)], check=True)
    content = program.read_bytes()
    return engine.image(
        entrypoint=["/hostile"],
        files={"/hostile": (content, 0o755), "/setuid-root": (content, 0o6755)},
        changes=FORGED,
    )


@pytest.fixture(scope="module")
def campaign(engine: Engine, hostile_image: str) -> Iterator[Campaign]:
    """Submit all faults. The instance runs them while the tests wait for one after the other."""
    instance = new_instance(slots=SLOTS, max_log=MAX_LOG, max_output_files=MAX_OUTPUT_FILES)
    try:
        instance.start()
        name = f"developer-{uuid.uuid4().hex[:6]}"
        token = instance.user(name, developer=True)
        developer = Person(instance, name, token, Path(tempfile.mkdtemp(prefix=name)))
        app = f"app-{uuid.uuid4().hex[:8]}"
        developer.create_app(app)
        developer.push(hostile_image, app)
        file = write_pointcloud(developer.home / "a.laz")
        export = instance.import_export(file, owner=name)
        made = Campaign(instance, developer, app, export, file, Host.look(instance, engine), engine)
        _submit(made, sorted(FAULTS.values(), key=lambda fault: -fault.time_matters))
        yield made
    finally:
        instance.remove()


def _submit(campaign: Campaign, faults: list[Fault]) -> None:
    gateway = "172.17.0.1"
    ports = [
        campaign.instance.settings["GRIDAPPS_PORT"],
        campaign.instance.settings["GRIDAPPS_REGISTRY_PORT"],
    ]
    addresses = [f"{host}:{port}" for host in ("127.0.0.1", gateway) for port in ports]
    for fault in faults:
        more = {"addresses": " ".join(addresses)} if fault.name == "network" else {}
        campaign.runs[fault.name] = campaign.submit(fault, **more)


def settled(campaign: Campaign) -> Host:
    """The host after the last run, once everything has been tidied up or some time has passed."""
    end = time.monotonic() + 20
    while True:
        now = Host.look(campaign.instance, campaign.engine)
        if (now.containers, now.mounts, now.loops, now.processes) == (0, 0, 0, 0) or time.monotonic() > end:
            return now
        time.sleep(0.2)
