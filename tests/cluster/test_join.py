"""Joining a node: the commands on the first machine and on the node, and what each refuses."""

import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from gridapps.pki import membership
from gridapps.pki.membership import Membership
from gridapps.registry import node_certificates
from gridapps.server.instance import Unusable, prepare, prepare_worker
from gridapps.server.join import join
from tests.fixtures.postgresql import Cluster

INSTANCE = "0a1b2c3d"
AUTHORITY = "grid.example:5443"


@pytest.fixture
def make_bundle(db):
    """Makes bundles for nodes of one instance."""

    def make(node: str, **facts: str) -> bytes:
        issued = node_certificates.issue(by=None, node=node, days=30)
        member = Membership(**{"node": node, "instance": INSTANCE, "authority": AUTHORITY, **facts})
        files = issued.files()
        return membership.pack(member, files)

    return make


@pytest.fixture
def joined(make_bundle, tmp_path, monkeypatch):
    """The data directory of node b, and the settings with which its commands start."""
    data = tmp_path / "data"
    join(data, make_bundle("b"), certificates=tmp_path / "certs.d", say=print)
    settings = {"data": data, "database": "postgresql:///none", "storage": tmp_path}
    for name, value in settings.items():
        monkeypatch.setenv(f"GRIDAPPS_{name.upper()}", str(value))
    return data


def test_a_joined_machine_has_what_its_engine_needs_and_no_more(joined, tmp_path):
    engine = tmp_path / "certs.d" / AUTHORITY
    assert {path.name for path in engine.iterdir()} == {"ca.crt", "00-node.cert", "00-node.key"}
    assert (engine / "00-node.key").stat().st_mode & 0o077 == 0
    assert (joined / "instance-id").read_text() == INSTANCE
    assert {path.name for path in joined.iterdir()} == {"instance-id", "node"}


def test_a_newer_bundle_of_the_node_takes_the_place_of_the_older(joined, make_bundle, tmp_path):
    said: list[str] = []
    (tmp_path / "certs.d" / AUTHORITY / "client.cert").touch()
    before = (joined / "node" / "client.cert").read_bytes()
    join(joined, make_bundle("b"), certificates=tmp_path / "certs.d", say=said.append)
    after = (joined / "node" / "client.cert").read_bytes()
    assert after != before
    assert (tmp_path / "certs.d" / AUTHORITY / "00-node.cert").read_bytes() == after
    assert "holds client.cert too" in said[0]


def test_what_belongs_to_another_node_or_to_the_instance_itself_does_not_join(joined, make_bundle, tmp_path):
    for bundle in (make_bundle("c"), make_bundle("b", instance="ffffffff")):
        with pytest.raises(Unusable, match="belongs to node b"):
            join(joined, bundle, certificates=tmp_path, say=print)
    with pytest.raises(Unusable, match="not a bundle"):
        join(joined, b"rubbish", certificates=tmp_path, say=print)
    (tmp_path / "first" / "authority").mkdir(parents=True)
    (tmp_path / "first" / "authority" / "ca.key").touch()
    with pytest.raises(Unusable, match="of an instance itself"):
        join(tmp_path / "first", make_bundle("b"), certificates=tmp_path, say=print)


def test_certificates_that_cannot_be_written_end_with_the_commands_that_do(make_bundle, tmp_path):
    with pytest.raises(Unusable, match=f"As root: mkdir -p /proc/none/{AUTHORITY}; cp "):
        join(tmp_path / "data", make_bundle("b"), certificates=Path("/proc/none"), say=print)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"GRIDAPPS_DATABASE": ""}, "needs the instance's PostgreSQL"),
        ({"GRIDAPPS_STORAGE": ""}, "set GRIDAPPS_STORAGE"),
        ({"GRIDAPPS_NODE": "c"}, "joined as node 'b', not 'c'"),
        ({"GRIDAPPS_DATA": "/nonexistent"}, "worker --join NAME.tar"),
    ],
)
def test_what_a_worker_refuses(joined, monkeypatch, change, sentence):
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unusable) as caught:
        prepare_worker(say=print)
    assert sentence in caught.value.message


def test_a_node_does_not_administer_the_instance(joined):
    with pytest.raises(Unusable, match=f"This machine is node b of the instance {AUTHORITY}"):
        prepare()


def test_from_the_first_machine_to_a_waiting_worker(tmp_path, postgresql: Cluster):
    """With the real commands. A worker waits for database and schema, and never changes them."""
    (tmp_path / "storage").mkdir()
    url = postgresql.create_database("unused").replace("/unused", "/joining")
    first = _Machine(tmp_path / "first", database=url, storage=tmp_path / "storage", host="grid.example")
    other = _Machine(
        tmp_path / "other", database=url, storage=tmp_path / "storage", engine="unix:///nowhere.sock"
    )
    postgresql.create_database("joining")
    bundle = tmp_path / "b.tar"
    first.run("init")
    bundle.write_bytes(first.run("node", "add", "b"))
    with tarfile.open(bundle) as tar:
        assert set(tar.getnames()) == {"node.json", "ca.crt", "client.cert", "client.key"}
    assert b"valid" in first.run("node", "list")
    assert b"1 certificate revoked" in first.run("node", "remove", "b")

    url = url.replace("/joining", "/later")
    other.environment["GRIDAPPS_DATABASE"] = first.environment["GRIDAPPS_DATABASE"] = url
    worker = other.start("worker", "--join", str(bundle), "--certificates", str(tmp_path / "certs.d"))
    try:
        assert worker.stderr is not None
        # Without lines about the test's directory, which accounts cannot access.
        lines = (line for line in worker.stderr if not line.startswith(b"Not separated"))
        said_of_itself = next(lines)
        while b"is node b" in (line := next(lines)):
            said_of_itself = line
        assert b"is node b" in said_of_itself
        assert b'"later" does not exist' in line
        postgresql.create_database("later")
        assert b"its schema lacks" in next(lines)
        # Two at once: one migrates, and the other finds nothing to do.
        both = [first.start("migrate") for _ in range(2)]
        assert [process.communicate()[1] for process in both] == [b"", b""]
        end = time.monotonic() + 120
        while not (other.data / "run" / "bells" / "b.bell").exists():
            assert worker.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        worker.terminate()
        said = worker.communicate(timeout=30)[1]
    assert worker.returncode == 0, said.decode()


class _Machine:
    """A data directory, and `gridapps-server` commands in it."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        rest = {
            key: value for key, value in os.environ.items() if not key.startswith(("GRIDAPPS_", "DJANGO_"))
        }
        given = {f"GRIDAPPS_{name.upper()}": str(value) for name, value in settings.items()}
        self.environment = {**rest, **given, "GRIDAPPS_DATA": str(data)}

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "gridapps.server.cli", *words], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str) -> bytes:
        """Run a command; return its output. Fails unless it exits with 0."""
        process = self.start(*words)
        printed, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
        return printed
