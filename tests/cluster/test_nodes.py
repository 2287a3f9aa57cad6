"""Two nodes with an engine, a worker and namespaces each. The first machine has no worker.

PostgreSQL and the broker run on the first machine. Whatever is killed or cut off, every run ends, every task
completes once, the outputs are those of an undisturbed run, and nothing is left over.
"""

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from celery import Celery
from kombu.common import Broadcast

from tests.cluster.machines import Machine, Network
from tests.fixtures.broker import Broker, start_broker
from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.people import Person
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.ports import free_port
from tests.fixtures.postgresql import Cluster
from tests.fixtures.tiers import CHANGES_INTERFACES

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group(CHANGES_INTERFACES),
]

FILES = 12
LEASE = 10  # seconds; on a busy machine a worker may renew it some seconds late
APP = "spread"
NUMBERS = "".join(f"{number}\n" for number in range(1, 20001)).encode()


@dataclass
class Site:
    """The machines, and a developer with an App and an export of twelve files."""

    first: Instance
    broker: Broker
    a: Machine
    b: Machine
    developer: Person
    export: str
    outputs: set[tuple[str, str]]  # path, SHA-256

    @property
    def nodes(self) -> tuple[Machine, Machine]:
        return self.a, self.b

    def submit(self, seconds: float) -> str:
        return self.developer.submit(APP, self.export, arguments={"seconds": seconds})

    def check(self, ended: str) -> Counter[str]:
        """Assert that the run ended like an undisturbed one; return the tasks that each node completed."""
        shown = self.developer.wait(ended, "SUCCESS", seconds=120)
        assert len(shown["tasks"]) == FILES
        completed: Counter[str] = Counter()
        for task in shown["tasks"]:
            good = [attempt for attempt in task["attempts"] if not attempt["reason"]]
            assert len(good) == 1, task
            assert good[0]["number"] == len(task["attempts"]), task
            completed[good[0]["node"]] += 1
        listed = self.developer.ask("GET", f"/runs/{ended}/outputs?limit=1000").json()["outputs"]
        assert {(output["path"], output["sha256"]) for output in listed} == self.outputs
        assert self.developer.output(ended, "0/numbers.txt") == NUMBERS
        return completed

    def unfinished(self, started: str) -> int:
        """The number of tasks of a run that have not ended."""
        return sum(not task["ended_at"] for task in self.developer.show(started)["tasks"])

    def until_both_work(self) -> None:
        """Submit runs until both nodes have completed tasks of one run."""
        self.until(lambda: set(self.check(self.submit(2))) == {"a", "b"}, what="at work on both nodes")

    def until(self, condition: Callable[[], Any], *, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            logs = "".join(f"--- {node.name}\n{node.log.read_text()[-3000:]}\n" for node in self.nodes)
            assert time.monotonic() < end, f"not {what}\n{logs}{self.first.tail()}"
            time.sleep(0.2)

    def until_both_run(self, started: str) -> None:
        """Wait until both nodes have running containers of this run."""
        self.until(
            lambda: (
                {"a", "b"} <= {task["node"] for task in self._running(started)}
                and all(node.containers() for node in self.nodes)
            ),
            what="running on both nodes",
        )

    def _running(self, started: str) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = self.developer.show(started)["tasks"]
        return [{"node": task["attempts"][-1]["node"]} for task in tasks if task["state"] == "RUNNING"]

    def until_clean(self) -> None:
        """Wait until nothing of any attempt is left on the nodes."""
        self.until(lambda: not any(node.leftovers() for node in self.nodes), what="clean")


@pytest.fixture(scope="module")
def network(engine: Engine) -> Iterator[Network]:
    for program in ("ip", "nsenter", "unshare"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing: scripts/machine test")
    try:
        found = Network().__enter__()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no bridge can be made here: {error.stderr}")
    yield found
    found.__exit__()


@pytest.fixture(scope="module")
def site(network: Network, engine: Engine) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        cluster = Cluster.start(Path(tempfile.gettempdir()), address=network.address, port=free_port())
        stack.callback(cluster.stop)
        broker = start_broker("redis", address=network.address)
        stack.callback(broker.remove)
        storage = Path(tempfile.mkdtemp(prefix="storage-"))
        storage.chmod(0o711)
        first = new_instance(
            host=network.address, listen=network.address, database=cluster.create_database("site"),
            broker=broker.url, storage=storage, lease=LEASE, engine="unix:///nowhere.sock",
        )  # fmt: skip
        first.options = ("--no-worker",)
        stack.callback(first.remove)
        first.start()
        nodes = []
        for number, name in enumerate(("a", "b")):
            node = Machine(name, network=network, number=number, first=first)
            stack.callback(node.remove)
            node.join()
            nodes.append(node)
        for node in nodes:
            node.start()
        yield _furnished(first, broker, nodes[0], nodes[1], engine)


def _furnished(first: Instance, broker: Broker, a: Machine, b: Machine, engine: Engine) -> Site:
    token = first.user("developer", developer=True, administrator=True)
    developer = Person(first, "developer", token, Path(tempfile.mkdtemp()))
    developer.create_app(APP)
    developer.push(_image(engine, "v1"), APP)
    files = [write_pointcloud(developer.home / f"{n:02}.laz", points=100 + n) for n in range(FILES)]
    export = first.import_export(*files, owner="developer")
    outputs = set()
    for index, file in enumerate(files):
        line = f"{hashlib.sha256(file.read_bytes()).hexdigest()}  -\n".encode()
        for path, content in (("input.sha256", line), ("numbers.txt", NUMBERS), ("stdout.txt", b"")):
            outputs.add((f"{index}/{path}", hashlib.sha256(content).hexdigest()))
    return Site(first, broker, a, b, developer, export, outputs)


def _image(engine: Engine, version: str) -> str:
    program = Path(__file__).with_name("program.sh").read_bytes()
    files = {"/program": (program, 0o755), "/version": (version.encode(), 0o644)}
    return engine.image(entrypoint=["/program"], files=files)


def test_a_run_spreads_over_both_nodes(site: Site):
    started = site.submit(2)
    site.until_both_run(started)
    # The same message ten times: the worker checks the queue ten times.
    application = Celery(broker=site.broker.url)
    bell: Any = Broadcast("gridapps-bell")
    for _ in range(10):
        application.send_task("gridapps.ring", queue=bell, declare=[bell.exchange], task_id="the-same")
    completed = site.check(started)
    assert set(completed) == {"a", "b"}
    shown = site.developer.show(started)
    assert all(len(task["attempts"]) == 1 for task in shown["tasks"])
    site.until_clean()


def test_a_shared_release_comes_from_the_trusted_registry_through_the_one_port(site: Site):
    first = site.first
    analyst = Person(first, "ann", first.user("ann"), site.developer.home)
    first.run_server_command("tag", "create", "city")
    first.run_server_command("tag", "give", "city", "ann")
    share = {"access_tag": "city", "release": "v1"}
    made = site.developer.ask("POST", f"/apps/{APP}/shares", expect=202, json=share).json()["shares"][0]
    site.until(
        lambda: (
            site.developer.ask("GET", f"/apps/{APP}/shares/{made['pk']}").json()["shares"][0]["state"]
            == "active"
        ),
        what="shared",
    )
    export = first.import_export(site.developer.home / "00.laz", owner="ann")
    ended = analyst.submit(APP, export, arguments={"seconds": 0})
    analyst.wait(ended, "SUCCESS")
    node = analyst.show(ended)["tasks"][0]["attempts"][0]["node"]
    (worked,) = (each for each in site.nodes if each.name == node)
    with contextlib.closing(docker.APIClient(worked.engine.address)) as client:
        pulled = {name for image in client.images() for name in image["RepoDigests"] or []}
    assert any(name.startswith(f"{first.authority}/grid/{APP}@") for name in pulled), pulled


def test_the_keys_of_the_instance_stay_on_the_first_machine(site: Site):
    for node in site.nodes:
        assert not (node.data / "authority").exists()
        assert not (node.data / "secret-key").exists()
        assert not (node.data / "database").exists()


def test_a_broker_that_is_killed_costs_no_run_and_no_time(site: Site):
    site.broker.kill()
    try:
        began = time.monotonic()
        started = site.submit(0)
        assert time.monotonic() - began < 2
        site.check(started)
    finally:
        site.broker.start()


def test_a_node_that_is_cut_off_loses_its_tasks_and_none_completes_twice(site: Site):
    started = site.submit(5)
    site.until_both_run(started)
    site.a.cut()
    try:
        kept = site.a.containers()
        unfinished = site.unfinished(started)
        completed = site.check(started)
        assert completed["b"] >= unfinished > 0, completed
        lost = [
            attempt
            for task in site.developer.show(started)["tasks"]
            for attempt in task["attempts"]
            if attempt["reason"]
        ]
        assert {each["reason"] for each in lost} == {"platform"}, lost
        assert "a" in {each["node"] for each in lost}, lost  # b may lose a lease too, on a busy machine
        assert set(kept) <= set(site.a.containers()), "a node that cannot ask leaves its containers alone"
    finally:
        site.a.mend()
    site.until_clean()
    assert site.check(started) == completed
    _assert_no_stray_files(site, started)
    site.until_both_work()


def _assert_no_stray_files(site: Site, ended: str) -> None:
    """Assert that the storage has only the outputs of the attempts that ended the tasks."""
    top = Path(site.first.settings["GRIDAPPS_STORAGE"]) / "outputs" / ended
    found = {(int(path.parts[-4]), int(path.parts[-3])) for path in top.glob("*/*/files/*")}
    shown = site.developer.show(ended)
    assert found == {(task["index"], len(task["attempts"])) for task in shown["tasks"]}


def test_a_node_that_dies_with_its_engine_gives_its_tasks_back_and_comes_back_clean(site: Site):
    started = site.submit(4)
    site.until_both_run(started)
    site.a.kill()
    unfinished = site.unfinished(started)
    completed = site.check(started)
    assert completed["b"] >= unfinished > 0, completed
    site.a.start()
    site.until_clean()
    _assert_no_stray_files(site, started)
    site.until_both_work()


def test_a_node_pushes_nothing_and_once_removed_pulls_nothing(site: Site, engine: Engine):
    directory = site.a.directory / "docker" / "certs.d" / site.first.authority
    for old, new in (("00-node.cert", "client.cert"), ("00-node.key", "client.key"), ("ca.crt", "ca.crt")):
        (site.a.directory / "held").mkdir(exist_ok=True)
        shutil.copy(directory / old, site.a.directory / "held" / new)
    image = _image(engine, "v2")
    done = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--dest-cert-dir", str(site.a.directory / "held"),
         f"docker-daemon:{image}", f"docker://{site.first.authority}/{APP}:v2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "node a only allows pulls" in done.stderr

    site.first.run_server_command("node", "remove", "a")
    site.developer.push(image, APP, tag="v2")  # an image that no node has
    started = site.submit(1)
    assert set(site.check(started)) == {"b"}
    attempts = [each for task in site.developer.show(started)["tasks"] for each in task["attempts"]]
    refused = [each for each in attempts if each["node"] == "a"]
    assert refused
    assert all("was revoked" in each["reason_text"] for each in refused), refused

    site.a.stop_worker()
    site.a.join()
    site.a.start_worker()
    site.until_both_work()
    assert "takes the certificate of node a" in site.a.command("doctor")
