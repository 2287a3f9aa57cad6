"""Garbage collection of a real developer registry: what is needed stays whole, what is not is really gone."""

import os
import random
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from gridapps.housekeeping import sweeping
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.pushes import disk
from gridapps.pushes.disk import Disk
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry import operations
from gridapps.registry.models import Layer, Release
from tests.fixtures.cast import Cast
from tests.registry.built import CONFIG, Image, config, descriptor, digest, encoded, entry, index, layer
from tests.registry.conftest import Developer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("its_disk")]
DAYS = 86400.0


def age(*, days: float = 2) -> None:
    """As if nothing of the registry had been touched for some time."""
    then = time.time() - days * DAYS
    for top, directories, files in os.walk(disk.developers().top):
        for name in (*directories, *files):
            os.utime(Path(top) / name, (then, then))


@pytest.fixture(autouse=True)
def nothing_of_other_tests(its_disk: None) -> None:
    """What other tests left in the registry is swept before the test, not in it."""
    age()
    sweeping.sweep()


def new_image(**parts: Any) -> Image:
    """An image that no test has pushed before: the registry outlives each test's database."""
    return Image(
        layers=[layer(content=secrets.token_bytes(3000)), layer(content=secrets.token_bytes(100))], **parts
    )


def pushed(developer: Developer, image: Image, tag: str = "v1") -> str:
    developer.upload(*image.blobs)
    answer = developer.push(image.manifest, tag)
    assert answer.status_code == 201, answer.content
    return digest(image.manifest)


def give_up(developer: Developer) -> None:
    """As retention does it: the releases stay as rows."""
    from django.utils import timezone

    developer.app.releases.update(state=Release.State.REMOVED, removed_at=timezone.now(), reasons=["Old."])
    developer.app.tags.all().delete()


def whole(developer: Developer, image: Image) -> bool:
    """Whether every byte of the image can be pulled."""
    with Repository(developer.name) as repository:
        try:
            content = repository.manifest(digest(image.manifest), media_type=OCI_MANIFEST, limit=9999)
            return content == image.manifest and all(
                repository.blob(digest(blob), limit=10**6) == blob for blob in image.blobs
            )
        except NotInRegistry:
            return False


def on_disk(*contents: bytes) -> list[bool]:
    return [(disk.developers().blob(digest(content)) / "data").exists() for content in contents]


def test_what_no_release_needs_is_gone_and_the_disk_is_free(developer: Developer) -> None:
    old, new = new_image(), new_image()
    shared = layer(content=secrets.token_bytes(5000))
    old.layers.append(shared)
    new.layers.append(shared)
    old, new = Image(layers=old.layers), Image(layers=new.layers)
    pushed(developer, old)
    give_up(developer)
    pushed(developer, new, "v2")
    orphan = secrets.token_bytes(4000)
    developer.upload(orphan)
    assert sweeping.sweep() == [], "within the grace nothing goes"
    age()
    would = sweeping.plan().lines()
    assert whole(developer, old)
    assert Layer.objects.filter(digest=digest(old.layers[0])).exists()
    assert sweeping.sweep() == would
    kept = set(Layer.objects.values_list("digest", flat=True))
    assert kept == set(map(digest, new.layers)), "what was read of the others is gone as well"
    assert f"tag {developer.name}:v1" in would
    assert f"manifest {developer.name}@{digest(old.manifest)}" in would
    assert f"blob {digest(orphan)}: 4000 bytes" in would
    assert on_disk(old.manifest, old.config, old.layers[0], orphan) == [False] * 4
    assert on_disk(shared) == [True]
    assert whole(developer, new)
    assert sweeping.sweep() == []
    with Repository(developer.name) as repository, pytest.raises(NotInRegistry):
        repository.manifest("v1", media_type=OCI_MANIFEST, limit=9999)


def test_every_platform_of_an_index_stays(developer: Developer) -> None:
    image, other = new_image(), new_image()
    other = Image(layers=other.layers, config=encoded(config(layers=other.layers, architecture="arm64")))
    for part in (image, other):
        developer.upload(*part.blobs)
        assert developer.push(part.manifest, digest(part.manifest)).status_code == 201
    arm = entry(other.manifest, {"os": "linux", "architecture": "arm64"})
    document = encoded(index(arm, entry(image.manifest)))
    age(days=0.9)
    assert sweeping.sweep() == [], "the index may still come"
    assert developer.push(document, media_type=OCI_INDEX).status_code == 201
    age()
    assert sweeping.sweep() == []
    assert whole(developer, image)
    assert whole(developer, other)
    give_up(developer)
    sweeping.sweep()
    assert on_disk(document, image.manifest, other.manifest, *image.blobs, *other.blobs) == [False] * 9


def put_directly(
    developer: Developer, document: bytes, reference: str, media_type: str = OCI_MANIFEST
) -> None:
    with Repository(developer.name) as repository:
        repository.put_manifest(reference, document, media_type=media_type)


def attachment(developer: Developer, **more: Any) -> bytes:
    """A manifest such as that of a signature."""
    blobs = [secrets.token_bytes(50), secrets.token_bytes(60)]
    developer.upload(*blobs)
    return encoded(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(blobs[0], CONFIG),
            "layers": [descriptor(blobs[1], "application/vnd.dev.cosign.simplesigning.v1+json")],
            **more,
        }
    )


def test_what_is_attached_to_a_release_stays_with_it(developer: Developer) -> None:
    image = new_image()
    release = pushed(developer, image)
    signature = attachment(developer)
    put_directly(developer, signature, f"{release.replace(':', '-')}.sig")
    report = attachment(developer, subject=descriptor(image.manifest, OCI_MANIFEST))
    put_directly(developer, report, digest(report))
    its_signature = attachment(developer, subject=descriptor(report, OCI_MANIFEST))
    put_directly(developer, its_signature, digest(its_signature))
    stray = attachment(developer)
    put_directly(developer, stray, f"sha256-{'0' * 64}.sig")
    age()
    sweeping.sweep()
    assert on_disk(signature, report, its_signature, stray) == [True, True, True, False]
    give_up(developer)
    sweeping.sweep()
    assert on_disk(signature, report, its_signature, image.layers[0]) == [False] * 4


def test_what_was_looked_at_is_not_taken(developer: Developer) -> None:
    """docker skips a layer that it finds present; its manifest comes later."""
    image = new_image()
    pushed(developer, image)
    give_up(developer)
    age()
    for blob in image.blobs:
        found = developer.request("HEAD", f"/v2/{developer.name}/blobs/{digest(blob)}")
        assert found.status_code == 200
    sweeping.sweep()
    assert developer.push(image.manifest, "v2").status_code == 201
    assert whole(developer, image)
    assert developer.app.releases.get().state == "valid"


def test_a_blob_that_is_mounted_is_not_taken(developer: Developer, cast: Cast) -> None:
    image = new_image()
    pushed(developer, image)
    give_up(developer)
    age()
    other = operations.create_app(by=cast.developer, app_id=f"{developer.name}-2", title="Two")
    for blob in image.blobs:
        uri = f"/v2/{other.app_id}/blobs/uploads/?mount={digest(blob)}&from={developer.name}"
        assert developer.request("POST", uri).status_code == 201
    sweeping.sweep()
    assert on_disk(*image.blobs) == [True] * 3
    target = Developer(developer.issued, other)
    assert target.push(image.manifest).status_code == 201
    age()
    sweeping.sweep()
    assert whole(target, image)


def test_a_push_that_takes_longer_than_the_grace(developer: Developer) -> None:
    image = new_image()
    developer.upload(*image.blobs)
    age()
    begun = developer.request("POST", f"/v2/{developer.name}/blobs/uploads/")
    assert begun.status_code == 202
    assert sweeping.sweep() == [], "another layer is on its way"
    uri = begun.headers["Location"]
    content = secrets.token_bytes(10)
    sent = developer.request("PATCH", uri, content)
    separator = "&" if "?" in sent.headers["Location"] else "?"
    done = developer.request("PUT", f"{sent.headers['Location']}{separator}digest={digest(content)}")
    assert done.status_code == 201, done.text
    assert developer.push(image.manifest).status_code == 201
    assert whole(developer, image)


def test_uploads_that_were_given_up_go_and_slow_ones_stay(developer: Developer) -> None:
    locations = []
    for _ in range(2):
        begun = developer.request("POST", f"/v2/{developer.name}/blobs/uploads/")
        sent = developer.request("PATCH", begun.headers["Location"], b"some")
        locations.append(sent.headers["Location"])
    uploads = list(disk.developers().repository(developer.name).uploads())
    age(days=0.1)
    slow = next(each for each in uploads if each.path.name in locations[0])
    with (slow.path / "data").open("ab"):  # as the registry has it open while a request of it goes on
        lines = sweeping.sweep()
    lines = [line for line in lines if developer.name in line]
    assert lines == [f"upload {developer.name}/{each.path.name}: 4 bytes" for each in uploads if each != slow]
    assert slow.path.exists()
    age(days=0.1)
    sweeping.sweep()
    assert not slow.path.exists()


def test_what_lies_there_of_no_app_is_left_alone(developer: Developer) -> None:
    """Perhaps it is the wrong database."""
    image = new_image()
    pushed(developer, image)
    developer.app.tags.all().delete()
    developer.app.releases.all().delete()
    developer.app.delete()
    age()
    assert sweeping.sweep() == []
    assert on_disk(image.manifest, *image.blobs) == [True] * 4


def test_what_a_lost_manifest_needs_is_not_guessed(developer: Developer) -> None:
    image = new_image()
    pushed(developer, image)
    shutil.rmtree(disk.developers().blob(digest(image.manifest)))
    age()
    assert sweeping.sweep() == []
    assert on_disk(*image.blobs) == [True] * 3


def test_links_of_the_file_system_are_not_followed(developer: Developer, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"precious")
    pushed(developer, new_image())
    there = disk.developers()
    name = secrets.token_hex(32)
    files = there.repository(developer.name)
    (there.top / "blobs/sha256" / name[:2]).mkdir(exist_ok=True)
    for place in (there.blob(name), files.layer(name), files.upload("away"), there.top / "repositories/away"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(tmp_path)
    age()
    sweeping.sweep()
    assert (tmp_path / "data").read_bytes() == b"precious"
    assert there.blob(name).is_symlink()
    (there.top / "repositories/away").unlink()


class Killed(BaseException):
    """As kill -9 between two steps: nothing is caught, nothing is put in order."""


@pytest.mark.parametrize("step", range(12))
def test_whoever_is_killed_in_the_middle_is_begun_again(
    developer: Developer, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    kept, image = new_image(), new_image()
    pushed(developer, image)
    give_up(developer)
    pushed(developer, kept, "v2")
    age()
    steps = iter(range(1000))

    def dying(real: Any) -> Any:
        def call(*words: Any, **more: Any) -> Any:
            if next(steps) == step:
                raise Killed
            return real(*words, **more)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dying(Path.rename))
        patched.setattr(shutil, "rmtree", dying(shutil.rmtree))
        with pytest.raises(Killed):
            sweeping.sweep()
    assert whole(developer, kept)
    sweeping.sweep()
    assert on_disk(image.manifest, *image.blobs) == [False] * 4
    assert whole(developer, kept)
    assert list((disk.developers().top.parents[2] / "removed").iterdir()) == []


def test_what_was_moved_aside_comes_back_when_somebody_relies_on_it(
    developer: Developer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last look at it and its removal somebody touches, or links, it."""
    image = new_image()
    pushed(developer, image)
    give_up(developer)
    age()
    real = Disk.take

    def late(self: Disk, path: Path, **more: Any) -> bool:
        if path == self.repository(developer.name).revision(digest(image.manifest)):
            self.touch(developer.name, digest(image.manifest))
        return real(self, path, **more)

    monkeypatch.setattr(Disk, "take", late)
    sweeping.sweep()
    assert whole(developer, image), "and all that it names"


@pytest.mark.django_db(transaction=True)
def test_pushes_beside_a_collection_that_never_rests(developer: Developer) -> None:
    """Old layers are found present and skipped, the manifest comes later; each time the image is whole."""
    image, chance = new_image(), random.Random(1)
    stop, failures, rounds = threading.Event(), [], []

    def collect() -> None:
        try:
            while not stop.is_set():
                rounds.append(len(sweeping.sweep()))
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for number in range(20):
            push_as_docker_does(developer, image, f"v{number}", pause=chance.random() * 0.02)
            assert whole(developer, image)
            give_up(developer)
            age()
            time.sleep(chance.random() * 0.03)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert len(rounds) > 5
    assert sum(rounds) > 20, "it has removed something, too"


def push_as_docker_does(developer: Developer, image: Image, tag: str, *, pause: float) -> None:
    for blob in image.blobs:
        if developer.request("HEAD", f"/v2/{developer.name}/blobs/{digest(blob)}").status_code == 200:
            continue
        begun = developer.request("POST", f"/v2/{developer.name}/blobs/uploads/")
        sent = developer.request("PATCH", begun.headers["Location"], blob)
        done = developer.request("PUT", f"{sent.headers['Location']}&digest={digest(blob)}")
        assert done.status_code == 201, done.text
    time.sleep(pause)
    answer = developer.push(image.manifest, tag)
    assert answer.status_code == 201, answer.content
