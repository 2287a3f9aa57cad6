"""The images that a node keeps: which are dropped, which never are, and how starts and drops interact."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from gridapps.sandbox.docker import DockerSandbox
from gridapps.sandbox.fake import Call, FakeSandbox
from gridapps.sandbox.protocol import EngineUnavailable, NoSpace
from gridapps.worker import node_images
from gridapps.worker.node_images import NodeImages
from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import PlainRegistry, plain_registry
from tests.sandbox.conftest import INPUT, SOCKET, Bench

A, B, C = (f"127.0.0.1:5001/{name}@sha256:{'0' * 64}" for name in "abc")


def sleep(call: Call) -> int:
    call.canceled.wait(60)
    return 0


@dataclass
class Node:
    """A node with a fake engine, whose images have 10 bytes each, 4 of them shared."""

    data: Path
    sandbox: FakeSandbox = field(init=False)

    def __post_init__(self) -> None:
        self.sandbox = FakeSandbox(scratch=self.data / "scratch", programs=dict.fromkeys((A, B, C), sleep))
        self.sandbox.sizes = {image: {"base": 4, image: 6} for image in (A, B, C)}
        for image in (A, B, C):
            self.sandbox.drop(image)

    def images(self, limit: int) -> NodeImages:
        """The images of a worker that starts now."""
        return NodeImages(self.data / "images", sandbox=self.sandbox, limit=limit)

    def there(self) -> list[str]:
        return [image for image in (A, B, C) if self.sandbox.layers(image)]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def use(images: NodeImages, *references: str) -> None:
    for reference in references:
        with images.lease(reference):
            images.pull(reference, token="", timeout=60)


def test_the_least_recently_used_goes_first(node: Node) -> None:
    images = node.images(limit=16)
    use(images, A, B)
    assert images.trim() == [], "what two have is counted once"
    use(images, A, C)
    assert images.trim() == [B]
    assert images.trim() == []
    assert node.there() == [A, C]


def test_a_worker_that_comes_back_knows_what_was_used_when(node: Node) -> None:
    use(node.images(limit=16), B, A, C)
    assert node.images(limit=10).trim() == [B, A]


def test_without_a_limit_all_stays(node: Node) -> None:
    images = node.images(limit=0)
    use(images, A, B, C)
    assert not images.due()
    assert images.trim() == []
    assert node.there() == [A, B, C]


def test_what_the_node_has_not_pulled_is_not_looked_at(node: Node) -> None:
    node.sandbox.pull(A, token="", timeout=1)
    images = node.images(limit=1)
    use(images, B)
    assert images.trim() == [B]
    assert node.there() == [A]


def test_what_somebody_has_removed_is_forgotten(node: Node) -> None:
    images = node.images(limit=10)
    use(images, A, B)
    node.sandbox.drop(A)
    assert images.trim() == []
    assert len(list((node.data / "images").iterdir())) == 1


def test_it_is_time_after_something_new_and_once_in_an_hour(node: Node, monkeypatch) -> None:
    images = node.images(limit=10)
    assert images.due(), "a worker that starts looks"
    assert not images.due()
    use(images, A)
    assert images.due()
    use(images, A)
    assert not images.due(), "nothing has come"
    monkeypatch.setattr(node_images, "TRIM", 0.0)
    assert images.due()


def test_what_is_about_to_start_stays(node: Node) -> None:
    images = node.images(limit=1)
    use(images, A)
    with images.lease(B):
        images.pull(B, token="", timeout=60)
        assert images.trim() == [A]
        assert images.trim() == []
    assert images.trim() == [B]


def test_who_wants_what_is_going_waits_and_pulls_it_again(node: Node, monkeypatch) -> None:
    images = node.images(limit=1)
    use(images, A)
    going, go = threading.Event(), threading.Event()
    drop = node.sandbox.drop

    def slowly(image: str) -> bool:
        going.set()
        assert go.wait(10)
        return drop(image)

    monkeypatch.setattr(node.sandbox, "drop", slowly)
    trimming = threading.Thread(target=images.trim)
    trimming.start()
    assert going.wait(10)
    using = threading.Thread(target=use, args=(images, A))
    using.start()
    using.join(0.2)
    assert using.is_alive()
    assert images.trim() == [], "one at a time"
    go.set()
    for thread in (trimming, using):
        thread.join(10)
    assert node.there() == [A]
    assert images.due(), "it has come anew"


def test_a_full_disk_costs_half_of_what_is_kept(node: Node, monkeypatch) -> None:
    monkeypatch.setattr(node_images, "ONCE_IN", 0)
    node.sandbox.sizes = {}  # a byte each
    images = node.images(limit=0)
    use(images, A, B)
    pull = node.sandbox.pull

    def onto_a_full_disk(image: str, **words: Any) -> None:
        if len(node.there()) > 0:
            raise NoSpace("The engine's disk has no room for the image.")
        pull(image, **words)

    monkeypatch.setattr(node.sandbox, "pull", onto_a_full_disk)
    for left in ([B], []):
        with pytest.raises(NoSpace):
            use(images, C)
        assert node.there() == left
    use(images, C)
    assert node.there() == [C]


def test_one_image_without_room_drives_out_others_once(node: Node, monkeypatch) -> None:
    node.sandbox.sizes = {}
    images = node.images(limit=0)
    use(images, A, B)

    def full(image: str, **_words: Any) -> None:
        raise NoSpace(f"The engine's disk has no room for {image}.")

    monkeypatch.setattr(node.sandbox, "pull", full)
    for _ in range(5):
        with pytest.raises(NoSpace):
            use(images, C)
    assert node.there() == [B]


def test_an_engine_that_goes_away_loses_nothing(node: Node) -> None:
    images = node.images(limit=1)
    use(images, A)
    node.sandbox.available = False
    with pytest.raises(EngineUnavailable):
        images.trim()
    node.sandbox.available = True
    assert images.trim() == [A]


# Over a real engine


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[PlainRegistry]:
    with plain_registry(tmp_path) as running:
        yield running


class Progress:
    """What threads have counted, and whether they go on: until each has counted to two."""

    def __init__(self, *names: str) -> None:
        self.counts = dict.fromkeys(names, 0)
        self._until = time.monotonic() + 120

    def goes_on(self) -> bool:
        return min(self.counts.values()) < 2 and time.monotonic() < self._until


def run_again_and_again(bench: Bench, images: NodeImages, reference: str, progress: Progress) -> None:
    """Use an image as attempts do; count how often it was pulled."""
    while progress.goes_on():
        with images.lease(reference):
            progress.counts[reference] += bench.sandbox.layers(reference) is None
            images.pull(reference, token="", timeout=60)
            launch = bench.launch(reference)
            bench.sandbox.start(launch)
        assert bench.finish(launch.name).stdout == "ran\n"
        bench.sandbox.remove(launch.name)


def drop_again_and_again(images: NodeImages, progress: Progress) -> None:
    """Remove images beyond the limit; count them."""
    while progress.goes_on():
        progress.counts["dropped"] += len(images.trim())


@pytest.mark.service
def test_runs_start_while_the_node_drops_their_images(
    engine: Engine, registry: PlainRegistry, tmp_path: Path
) -> None:
    """Images of another instance and of the operator are left alone."""
    scratch = tmp_path / "scratch"
    sandbox = DockerSandbox(
        engine=SOCKET, instance=f"test-{os.getpid()}", scratch=scratch, quota="loop", runtime=""
    )
    (tmp_path / "in.laz").write_bytes(INPUT)
    bench = Bench(sandbox, tmp_path / "in.laz")
    images = NodeImages(tmp_path / "images", sandbox=sandbox, limit=1)
    digests = {
        name: registry.move(engine, engine.image(command=[f"echo ran; : {name}"]), name)
        for name in ("a", "b")
    }
    ours = [f"{registry.host}/{name}@{digest}" for name, digest in digests.items()]
    other = NodeImages(tmp_path / "other", sandbox=sandbox, limit=0)
    others = f"{registry.host}/others@{registry.move(engine, engine.image(command=['true']), 'others')}"
    use(other, others)
    stranger = engine.image()
    engine.client.pull(ours[1])
    engine.client.tag(ours[1], "gridapps-test/kept", "1")
    progress = Progress("dropped", *ours)
    try:
        with ThreadPoolExecutor() as pool:
            work = [pool.submit(drop_again_and_again, images, progress)]
            work += [pool.submit(run_again_and_again, bench, images, each, progress) for each in ours]
        for each in work:
            each.result()
        assert min(progress.counts.values()) >= 2, progress.counts
        images.trim()
        assert [sandbox.layers(reference) for reference in ours] == [None, None]
        for reference in (others, stranger, "gridapps-test/kept:1"):
            assert sandbox.layers(reference), f"{reference} is gone"
    finally:
        bench.close()
        for reference in (others, "gridapps-test/kept:1", *ours):
            try:
                engine.client.remove_image(reference)
            except docker.errors.ImageNotFound:
                continue
        sandbox.close()
