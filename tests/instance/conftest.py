"""People, an App and an export in the shared instance, and the same for instances that a test makes."""

import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance
from tests.fixtures.people import Person
from tests.fixtures.pointclouds import write_pointcloud

PROGRAM = Path(__file__).with_name("program.sh")


@dataclass
class Stage:
    """An instance with a developer who owns the App `app` (program.sh) and the one-file export `export`."""

    instance: Instance
    developer: Person
    app: str
    export: str
    file: Path

    def person(self, name: str, **roles: bool) -> Person:
        return new_person(self.instance, name, **roles)

    def submit(self, do: str, **arguments: object) -> str:
        """Let the developer run the App; return the run's id."""
        return self.developer.submit(self.app, self.export, arguments={"do": do, **arguments})


def new_person(instance: Instance, name: str, **roles: bool) -> Person:
    """Create a user of the instance, under a new name."""
    unique = f"{name}-{uuid.uuid4().hex[:6]}"
    return Person(instance, unique, instance.user(unique, **roles), Path(tempfile.mkdtemp(prefix=name)))


SetStage = Callable[[Instance], Stage]


@pytest.fixture(scope="session")
def program_image(engine: Engine) -> str:
    """The image of program.sh."""
    return engine.image(entrypoint=["/program"], files={"/program": (PROGRAM.read_bytes(), 0o755)})


@pytest.fixture(scope="session")
def set_stage(program_image: str) -> SetStage:
    """Create people, App and export in a running instance."""

    def make(instance: Instance) -> Stage:
        developer = new_person(instance, "developer", developer=True)
        app = f"app-{uuid.uuid4().hex[:8]}"
        developer.create_app(app)
        developer.push(program_image, app)
        file = write_pointcloud(developer.home / "a.laz")
        return Stage(instance, developer, app, instance.import_export(file, owner=developer.name), file)

    return make


@pytest.fixture(scope="session")
def stage(instance: Instance, set_stage: SetStage) -> Stage:
    """The stage in the shared instance."""
    return set_stage(instance)


@pytest.fixture
def containers_of(engine: Engine) -> Callable[..., list[str]]:
    """The containers that mount files of an instance: the running ones, or all."""

    def find(instance: Instance, *, running: bool = False) -> list[str]:
        return [
            row["Id"]
            for row in engine.client.containers(all=not running)
            if any(mount.get("Source", "").startswith(f"{instance.data}/") for mount in row["Mounts"])
        ]

    return find
