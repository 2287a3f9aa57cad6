"""The roots of newer Debian releases: their engines run, and leave nothing."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.fixtures.leftovers import mounts_below
from tests.fixtures.own_engine import OwnEngine
from tests.fixtures.roots import TESTED, Root, cached, propagated, root


@pytest.fixture(scope="module", params=TESTED)
def suite(request: pytest.FixtureRequest) -> Root:
    made: Root = request.getfixturevalue(request.param)
    return made


def test_programs_of_the_suite_run(suite: Root) -> None:
    release = suite.path("/etc/debian_version").read_text().strip()
    assert release.startswith("13.") if suite.name == "trixie" else release.endswith("/sid")
    for program in ("docker", "podman", "skopeo", "cosign", "oras", "ctr"):
        status, printed = suite.run("which", program)
        assert status == 0, printed


def test_changes_stay_in_the_overlay() -> None:
    with root("trixie") as first, root("trixie") as second:
        assert first.run("sh", "-c", "echo changed > /etc/hostname; rm /etc/debian_version")[0] == 0
        assert first.path("/etc/hostname").read_text() == "changed\n"
        assert second.path("/etc/debian_version").exists()
        directory = first.directory
    assert (cached("trixie") / "etc" / "debian_version").exists()
    assert not directory.exists()


def test_a_later_mount_of_this_machine_is_visible() -> None:
    with propagated(Path(tempfile.mkdtemp())) as directory, root("trixie", directory) as made:
        place = directory / "mounted"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        (place / "file").write_text("seen")
        assert made.run("cat", place / "file") == (0, "seen")
    assert mounts_below(str(directory)) == []


@pytest.fixture(params=[False, True], ids=["overlay2", "containerd-store"])
def suites_engine(suite: Root, request: pytest.FixtureRequest) -> Iterator[OwnEngine]:
    engine = OwnEngine(inside=suite.inside, containerd_store=request.param)
    try:
        engine.start()
        yield engine
    finally:
        engine.remove()


def test_engine_of_a_root_runs_a_container(suite: Root, suites_engine: OwnEngine) -> None:
    client = docker.APIClient(suites_engine.address)
    found = client.info()["Driver"]
    assert found == ("overlayfs" if suites_engine.containerd_store else "overlay2")
    client.close()
    archive = suite.path("/tmp/image.tar")
    subprocess.run(["tar", "-cf", archive, "-C", "/bin", "busybox"], check=True)
    settings = {"DOCKER_HOST": suites_engine.address}
    status, printed = suite.run("docker", "import", "/tmp/image.tar", "busybox:1", settings=settings)
    assert status == 0, printed
    printed = suite.run(
        "docker", "run", "--rm", "--network=none", "busybox:1", "/busybox", "echo", "ran", settings=settings
    )[1]
    assert printed == "ran\n"
