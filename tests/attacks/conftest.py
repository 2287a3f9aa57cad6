"""One running instance that all attackers share: see scene.py. Each test restores what it changes."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.scene import Scene, populate, set_scene
from tests.fixtures.engine import Engine
from tests.fixtures.instance import new_instance
from tests.fixtures.pointclouds import write_pointcloud

HERE = Path(__file__).parent
PROGRAM = HERE.parent / "instance" / "program.sh"
# Small limits, so that input that exceeds them is small as well.
LIMITS = {"max_image": 64 * 1024**2, "max_uploads": 32 * 1024**2, "slots": 2}


@pytest.hookimpl(tryfirst=True)  # before the tiers give each module a process of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them share the scene, so one process has to run them."""
    for item in items:
        if HERE in item.path.parents and "scene" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("attacks"))


@pytest.fixture(scope="package")
def scene(engine: Engine) -> Iterator[Scene]:
    """The running instance and its people."""
    program = {"/program": (PROGRAM.read_bytes(), 0o755)}
    image = engine.image(entrypoint=["/program"], files=program)
    other = engine.image(entrypoint=["/program"], files={**program, "/other": (b"other", 0o644)})
    instance = new_instance(parent=None, **LIMITS)
    try:
        instance.start()
        file = write_pointcloud(Path(tempfile.mkdtemp()) / "a.laz")
        yield set_scene(instance, populate(instance), image=image, other=other, file=file)
    finally:
        instance.remove()


@pytest.fixture(autouse=True)
def _still_alive(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test the instance must still answer."""
    yield
    if "scene" in request.fixturenames:
        scene: Scene = request.getfixturevalue("scene")
        assert scene.alive(), scene.instance.tail()
