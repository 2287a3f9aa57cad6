"""The housekeeper of a running instance, and `gridapps-server tidy`."""

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gridapps.server import housekeeper
from gridapps.server.housekeeper import Job, keep_house
from tests.fixtures.instance import SERVER, MakeInstance
from tests.registry.built import Image, digest
from tests.registry.places import Place, door, new_place, upload

LIMIT = 4 * 1024**2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data directory, without pauses between rounds."""
    (tmp_path / "run" / "housekeeper").mkdir(parents=True)
    monkeypatch.setattr(housekeeper, "FIRST", 0.0)
    monkeypatch.setattr(housekeeper, "EVERY", 0.0)
    monkeypatch.setattr(housekeeper, "PATIENCE", 0.0)
    return tmp_path


class Enough(BaseException):
    """Ends the process like a signal."""


@pytest.mark.django_db
def test_a_job_that_fails_stops_neither_the_others_nor_its_next_round(
    impatient: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rounds: list[str] = []

    def failing() -> list[str]:
        rounds.append("failing")
        raise OSError("the disk is gone")

    def working() -> Iterator[str]:
        rounds.append("working")
        if len(rounds) == 4:
            raise Enough
        yield "a thing"

    monkeypatch.setattr(housekeeper, "JOBS", (Job("first", list, failing), Job("second", list, working)))
    with caplog.at_level(logging.INFO), pytest.raises(Enough):
        keep_house(impatient)
    assert rounds == ["failing", "working"] * 2
    assert "The job second removed 1 things: ['a thing']" in caplog.text
    assert "the disk is gone" in caplog.text


def ends_at_its_portion(place: Place, client: httpx.Client) -> None:
    """nginx ends a body of unknown length at its limit, and refuses a length beyond it at once.

    What has arrived is kept for now and counts towards the quota.
    """
    sent: list[int] = []

    def endless() -> Iterator[bytes]:
        while len(sent) < 100:
            sent.append(1)
            yield bytes(64 * 1024)

    uploads = f"/v2/{place.app}/blobs/uploads/"
    location = client.post(uploads).headers["Location"]
    with contextlib.suppress(httpx.WriteError):  # perhaps it is still sending when the answer comes
        answer = client.patch(location, content=endless())
        assert answer.status_code == 413
        assert "half of your remaining quota" in answer.json()["details"]
    data = place.instance.data / "registry/docker/registry/v2/repositories" / place.app / "_uploads"
    place.instance.wait_until(lambda: not list(data.glob("*/data")), what="removed what had arrived")
    location = client.post(uploads).headers["Location"]
    refusal = client.patch(location, content=bytes(LIMIT))
    assert refusal.status_code == 401
    assert "The quota is exceeded" in refusal.json()["details"]


@pytest.mark.system
def test_what_it_does_in_an_instance(make_instance: Callable[..., Any] | MakeInstance) -> None:
    instance = make_instance(max_registry=LIMIT)
    instance.start()
    place = new_place(instance)
    image, orphan = Image(), b"orphan"
    with door(place) as client:
        ends_at_its_portion(place, client)
        for blob in (*image.blobs, orphan):
            upload(client, place, blob)
        pushed = client.put(
            f"/v2/{place.app}/manifests/v1", content=image.manifest,
            headers={"Content-Type": image.document["mediaType"]},
        )  # fmt: skip
        assert pushed.status_code == 201, pushed.text
    shown = instance.run_server_command("status")
    assert f"          {place.developer.name}: 0.0 of 0.0 GiB" in shown
    assert instance.run_server_command("tidy") == "0 removed.\n"
    top = instance.data / "registry"
    for path in top.rglob("*"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    would = instance.run_server_command("tidy", "--dry-run")
    lines = would.splitlines()
    uploads = [line for line in lines if line.startswith(f"upload {place.app}/")]
    # The registry may have written the state of the first one once more after its content was removed.
    assert {line.split()[-2] for line in uploads} == {"0"}
    assert lines[len(uploads) :] == [
        f"link {place.app}@{digest(orphan)}", f"blob {digest(orphan)}: 6 bytes",
        f"{len(uploads) + 2} would be removed.",
    ]  # fmt: skip
    # While the housekeeper works, another one waits.
    with housekeeper.alone(instance.data):
        waiting = subprocess.Popen(
            [SERVER, "tidy"], env=instance.environment, stdout=subprocess.PIPE, text=True
        )
        time.sleep(2)
        assert waiting.poll() is None
    assert waiting.communicate(timeout=60)[0] == would.replace("would be ", "")
    place.developer.ask("DELETE", f"/apps/{place.app}")
    first = instance.run_server_command("tidy")
    assert first.splitlines()[0].startswith(f"release {place.app}@{digest(image.manifest)}: ")
    assert instance.run_server_command("status").count(place.developer.name) == 0
    assert [path for path in top.rglob("*") if path.is_file()] == []
    # It starts after nginx, which already answers.
    instance.wait_until(lambda: instance.find("housekeeper"), what="the housekeeper")
    before = instance.part("housekeeper")
    os.kill(before, signal.SIGKILL)
    instance.wait_until(lambda: instance.find("housekeeper") not in (None, before), what="started it again")
    assert instance.stop() == 0
    assert instance.find("housekeeper") is None
