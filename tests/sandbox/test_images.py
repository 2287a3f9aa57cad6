"""Which images a real engine drops and keeps, and the space that they take."""

from collections.abc import Callable, Iterator

import docker
import pytest

from gridapps.sandbox.engine.layers import layer_sizes, with_compressed
from tests.fixtures.engine import Engine
from tests.fixtures.leftovers import TEST_IMAGES
from tests.sandbox.conftest import MIB, Bench

SOMEBODYS = f"{TEST_IMAGES}of-somebody"
Build = Callable[[str, str], str]


@pytest.fixture
def build(engine: Engine) -> Iterator[Build]:
    """Make an image with another layer, which contains what a script creates."""
    made: list[str] = []

    def image(base: str, script: str) -> str:
        container = engine.client.create_container(base, command=[script])
        engine.client.start(container)
        assert engine.client.wait(container)["StatusCode"] == 0
        made.append(f"{SOMEBODYS}-{len(made)}:1")
        runs = {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["test -d /no-bytes; wc -c < /layer"]}
        repository, _, tag = made[-1].partition(":")
        engine.client.commit(container, repository=repository, tag=tag, conf=runs)
        engine.client.remove_container(container)
        return made[-1]

    yield image
    for reference in reversed(made):
        try:
            engine.client.remove_image(reference)
        except docker.errors.ImageNotFound:
            continue


@pytest.mark.service
def test_what_somebody_else_calls_by_another_name_stays(bench: Bench, engine: Engine) -> None:
    ours = engine.image(command=["echo whole"])
    engine.client.tag(ours, SOMEBODYS, "1")
    try:
        assert bench.sandbox.drop(ours)
        assert bench.sandbox.layers(ours) is None
        assert bench.run(f"{SOMEBODYS}:1").stdout == "whole\n"
    finally:
        bench.close()
        engine.client.remove_image(f"{SOMEBODYS}:1")


@pytest.mark.service
@pytest.mark.parametrize("other_name", [False, True])
def test_an_image_that_somebody_elses_container_has_stays(
    bench: Bench, engine: Engine, other_name: bool
) -> None:
    ours = engine.image()
    if other_name:
        engine.client.tag(ours, SOMEBODYS, "2")
    container = engine.client.create_container(ours, command=["true"])
    try:
        assert not bench.sandbox.drop(ours)
        assert bench.sandbox.layers(ours)
    finally:
        engine.client.remove_container(container)
    assert bench.sandbox.drop(ours)
    if other_name:
        engine.client.remove_image(f"{SOMEBODYS}:2")


@pytest.mark.service
def test_layers_that_images_share_are_known_and_stay_until_the_last_goes(
    bench: Bench, engine: Engine, build: Build
) -> None:
    base = build(engine.image(), "mkdir /no-bytes")
    one = build(base, "head -c 1048576 /dev/zero > /layer")
    two = build(base, "head -c 2097152 /dev/zero > /layer")
    layers = {name: bench.sandbox.layers(name) or {} for name in (base, one, two)}
    assert [len(each) for each in layers.values()] == [2, 3, 3]
    shared = layers[one].keys() & layers[two].keys()
    assert shared == layers[base].keys()
    for name, own in ((one, MIB), (two, 2 * MIB)):
        assert sum(layers[name].values()) == engine.client.inspect_image(name)["Size"]
        assert [size for key, size in layers[name].items() if key not in shared] == [own]
    assert bench.sandbox.drop(one)
    assert bench.run(two).stdout == "2097152\n"
    bench.close()


def test_compressed_copies_of_layers_count_as_well() -> None:
    assert with_compressed({"a": 300, "b": 100, "c": 0}, compressed=40) == {"a": 330, "b": 110, "c": 0}
    assert with_compressed({"a": 0}, compressed=40) == {"a": 40}
    assert with_compressed({}, compressed=0) == {}


def test_an_image_without_a_history_is_one_layer_of_its_whole_size() -> None:
    assert sorted(layer_sizes(["sha256:a", "sha256:b"], size=30, steps=[]).values()) == [0, 30]
    assert layer_sizes([], size=0, steps=[]) == {}


def test_a_layer_is_shared_only_on_the_same_ground() -> None:
    first, second = (
        layer_sizes([base, "sha256:same"], size=3, steps=[2, 0, 1]) for base in ("sha256:a", "sha256:b")
    )
    assert list(first.values()) == list(second.values()) == [1, 2]
    assert not first.keys() & second.keys()
