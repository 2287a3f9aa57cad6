"""The engines of today as a node's engine: the sandbox contract, and what differs between their stores."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.sandbox.protocol import EntryPoint, Unexplained
from tests.engines.conftest import STORES, Node, a_node
from tests.fixtures.engine import Engine
from tests.fixtures.plain_registry import plain_registry
from tests.sandbox.conftest import Bench
from tests.sandbox.contract import SandboxContract


@pytest.fixture(
    scope="module", params=STORES, ids=lambda each: f"{each[0]}-{'containerd' if each[1] else 'overlay2'}"
)
def node(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Node]:
    suite, containerd_store = request.param
    with a_node(suite, containerd_store=containerd_store) as made:
        yield made


class TestSandbox(SandboxContract):
    """Each engine keeps the contract."""


def test_the_sandbox_can_be_checked(node: Node) -> None:
    node.sandbox.check()


BUILT = """
FROM scratch
COPY --chmod=755 busybox /bin/busybox
COPY zeros /zeros
ENV GIVEN=built
WORKDIR /bin
ENTRYPOINT ["/bin/busybox"]
CMD ["env"]
"""


@pytest.fixture(scope="module")
def built(node: Node) -> str:
    """An image that the release's docker builds, with a layer of 4 MB that compresses to little."""
    context = node.own.directory / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(BUILT)
    (context / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (context / "zeros").write_bytes(bytes(4_000_000))
    node.docker("build", "--quiet", "--network=none", "--tag=built:1", context)
    return "built:1"


def test_the_size_of_an_image_is_what_it_takes_on_the_disk(node: Node, built: str) -> None:
    (listed,) = node.engine.client.images("built")
    layers = node.sandbox.layers(built)
    assert layers is not None
    # Docker's own sum also has the manifests, and rounds each division by layer.
    assert abs(sum(layers.values()) - listed["Size"]) < 16 * 1024


def test_an_image_whose_layers_are_known_in_another_compression(node: Node, built: str, bench: Bench) -> None:
    """As after the quick start: build, push with skopeo, and run in one engine. Docker 28 with the containerd
    store then describes the image as empty (moby issue 49784), but runs it."""
    archive = node.own.directory / "built.tar"
    node.docker("save", built, "--output", archive)
    with plain_registry(Path(tempfile.mkdtemp(prefix="registry-"))) as registry:
        pushed = f"{registry.host}/recompressed"
        copied = node.root.run(
            "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-compress-format=gzip",
            "--dest-compress-level=9", f"docker-archive:{archive}", f"docker://{pushed}:1",
        )  # fmt: skip
        assert copied[0] == 0, copied[1]
        inspect = ["skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{pushed}:1"]
        reference = f"{pushed}@{node.root.run(*inspect)[1].strip()}"
        assert node.sandbox.pull(reference, token="", timeout=120) is None
    recorded = EntryPoint(command=["/bin/busybox", "env"], workdir="/bin", environment=["GIVEN=built"])
    assert "GIVEN=built\n" in bench.run(reference, entry=recorded).stdout
    layers = node.sandbox.layers(reference)
    assert layers is not None
    assert sum(layers.values()) > 4_000_000
    described = node.engine.client.inspect_image(reference)
    assert bool(described["Os"]) == (not (node.root.name == "sid" and node.own.containerd_store))
    if described["Os"]:
        assert "GIVEN=built\n" in bench.run(reference).stdout
    else:
        with pytest.raises(Unexplained, match="push the image again"):
            bench.sandbox.start(bench.launch(reference))
    bench.close()
    assert node.sandbox.drop(reference)
