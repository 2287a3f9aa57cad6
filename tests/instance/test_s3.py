"""An instance whose exports and outputs lie in S3: runs, downloads, a followed log, a service away."""

import hashlib
import io
import json
import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.s3 import CREDENTIALS, S3Server, serving
from tests.instance.conftest import SetStage, Stage

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def remote(engine, server: S3Server, set_stage: SetStage) -> Iterator[Stage]:
    instance = new_instance(storage="s3://grid/an/instance", s3_endpoint=server.endpoint, slots=3)
    instance.settings |= CREDENTIALS
    try:
        instance.start()
        yield set_stage(instance)
    finally:
        instance.remove()


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def digests(stage: Stage, run: str) -> list[str]:
    return [stage.developer.output(run, f"{n}/sub/input.sha256").decode().split()[0] for n in range(3)]


def cached(instance: Instance) -> list[Path]:
    return files_in(instance.data / "cache" / "files")


def test_three_files_run_again_and_again_and_are_fetched_once(remote: Stage, server: S3Server) -> None:
    stage = remote
    clouds = [write_pointcloud(stage.developer.home / f"{n}.laz", points=500 + n) for n in range(3)]
    expected = [hashlib.sha256(cloud.read_bytes()).hexdigest() for cloud in clouds]
    export = stage.instance.import_export(*clouds, owner=stage.developer.name)
    stored = {path.name for path in files_in(server.bucket / "an" / "instance" / "exports")}
    assert set(expected) <= stored
    puts = server.asked()["put object"]
    stage.instance.import_export(*clouds, owner=stage.developer.name, name="again")
    assert server.asked()["put object"] == puts, "what is there is not sent again"

    run = stage.developer.submit(stage.app, export, arguments={"do": "summary"})
    assert stage.developer.wait(run)["state"] == "SUCCESS"
    before = server.asked()
    second = stage.developer.submit(stage.app, export, arguments={"do": "summary"})
    assert stage.developer.wait(second)["state"] == "SUCCESS"
    assert server.asked()["get object"] == before["get object"], "the second run fetches nothing"
    assert digests(stage, run) == digests(stage, second) == expected
    assert len(cached(stage.instance)) >= 3
    stage.instance.wait_until(lambda: not files_in(stage.instance.data / "cache" / "used"), what="given free")
    stage.instance.wait_until(lambda: not files_in(stage.instance.data / "attempts"), what="cleaned up")
    assert not (stage.instance.data / "exports").exists()

    _assert_downloads(stage, run)
    assert not [path for path in files_in(server.bucket) if "log.d" in path.parts]


def _assert_downloads(stage: Stage, run: str) -> None:
    listed = stage.developer.ask("GET", f"/runs/{run}/outputs").json()["outputs"]
    assert len(listed) == 12
    with stage.developer.client() as client:
        entry = next(entry for entry in listed if entry["path"] == "1/numbers.txt")
        whole = client.get(entry["url"])
        assert hashlib.sha256(whole.content).hexdigest() == entry["sha256"]
        assert whole.headers["Content-Length"] == str(entry["size"])
        part = client.get(entry["url"], headers={"Range": "bytes=5-8"})
        assert (part.status_code, part.content) == (206, whole.content[5:9])
        assert part.headers["Content-Range"] == f"bytes 5-8/{entry['size']}"
        assert client.get(entry["url"], headers={"Range": "bytes=-4"}).content == whole.content[-4:]
        assert client.get(entry["url"], headers={"Range": f"bytes={entry['size']}-"}).status_code == 416
        known = client.get(entry["url"], headers={"If-None-Match": whole.headers["ETag"]})
        assert (known.status_code, known.content) == (304, b"")
        archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/v3/runs/{run}/outputs.zip").content))
    assert archive.testzip() is None
    for entry in listed:
        data = archive.read(entry["path"])
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
    assert [line.split(" ", 2)[2] for line in stage.developer.log(run).splitlines()] == [
        "begin summary", "end",
    ] * 3  # fmt: skip


def test_a_log_is_followed_while_it_is_written(remote: Stage, server: S3Server) -> None:
    run = remote.submit("sleep", seconds=6)
    said: list[tuple[float, str]] = []

    def follow() -> None:
        with (
            remote.developer.client() as client,
            client.stream("GET", f"/api/v3/runs/{run}/log", params={"follow": 1}) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: ") and line != "data: {}":  # of the event `begin`
                    said.append((time.monotonic(), line))

    follower = threading.Thread(target=follow)
    follower.start()
    assert remote.developer.wait(run)["state"] == "SUCCESS"
    follower.join(30)
    texts = [json.loads(line.removeprefix("data: ")) for _, line in said]
    assert [each.get("text") or each["state"] for each in texts] == ["begin sleep", "end", "SUCCESS"]
    assert said[1][0] - said[0][0] > 2, "the first line came while the program ran"


def test_objects_that_are_missing_cut_or_altered_end_the_task_with_a_sentence(
    remote: Stage, server: S3Server
) -> None:
    stage = remote
    clouds = [write_pointcloud(stage.developer.home / f"bad-{n}.laz", points=900 + n) for n in range(3)]
    export = stage.instance.import_export(*clouds, owner=stage.developer.name)
    objects = [
        server.bucket / "an/instance/exports" / hashlib.sha256(cloud.read_bytes()).hexdigest()
        for cloud in clouds
    ]
    objects[0].unlink()
    objects[1].write_bytes(objects[1].read_bytes()[:-7])
    data = bytearray(objects[2].read_bytes())
    data[-1] ^= 1
    objects[2].write_bytes(data)
    time.sleep(0.5)  # the server remembers directories for a moment
    run = stage.developer.submit(stage.app, export, arguments={"do": "summary"})
    assert stage.developer.wait(run)["state"] == "FAILURE"
    tasks = stage.developer.show(run)["tasks"]
    assert [task["reason"] for task in tasks] == ["input-unreadable"] * 3
    texts = [task["reason_text"] for task in tasks]
    for text, part in zip(texts, ("is missing", "bytes instead of", "another content"), strict=True):
        assert part in text
    assert all(len(task["attempts"]) == 1 for task in tasks)


def test_a_storage_that_is_away_is_waited_for(remote: Stage, server: S3Server) -> None:
    """At the start, where the input is fetched, and at the end, where the outputs go."""
    stage = remote
    cloud = write_pointcloud(stage.developer.home / "new.laz", points=1234)
    export = stage.instance.import_export(cloud, owner=stage.developer.name)
    running = stage.submit("sleep", seconds=4)
    stage.developer.wait_for_progress(running)
    server.stop()
    try:
        run = stage.developer.submit(stage.app, export, arguments={"do": "summary"})
        stage.instance.wait_until(
            lambda: all("Waiting" in stage.developer.show(each)["message"] for each in (running, run)),
            what="waiting",
        )
        assert "S3 storage does not answer" in stage.developer.show(run)["message"]
    finally:
        server.start()
    for each in (running, run):
        assert stage.developer.wait(each)["state"] == "SUCCESS"
        tasks = stage.developer.show(each)["tasks"]
        assert [len(task["attempts"]) for task in tasks] == [1]
    assert stage.developer.output(running, "0/started.txt")


def test_a_killed_worker_is_succeeded_by_one_that_adopts(remote: Stage) -> None:
    run = remote.submit("sleep", seconds=5)
    remote.developer.wait_for_progress(run)
    os.kill(remote.instance.part("worker"), signal.SIGKILL)
    assert remote.developer.wait(run)["state"] == "SUCCESS"
    assert [len(task["attempts"]) for task in remote.developer.show(run)["tasks"]] == [1]
    assert [line.split(" ", 2)[2] for line in remote.developer.log(run).splitlines()] == [
        "begin sleep",
        "end",
    ]
    left = [remote.instance.data / name for name in ("attempts", "cache/used", "cache/partial")]
    remote.instance.wait_until(lambda: not any(map(files_in, left)), what="cleaned up")


def test_secrets_stay_where_they_are(remote: Stage) -> None:
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode()
    for path in files_in(remote.instance.data):
        assert secret not in path.read_bytes(), path
    for part in ("nginx", "registry"):
        assert secret not in Path(f"/proc/{remote.instance.part(part)}/environ").read_bytes()


def test_doctor_names_what_is_wrong(server: S3Server) -> None:
    instance = new_instance(storage="s3://other", s3_endpoint=server.endpoint)
    instance.settings |= CREDENTIALS
    said = instance.run_server_command("doctor", check=False)
    assert "NoSuchBucket" in said
