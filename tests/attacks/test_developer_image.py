"""A developer attacks with an image: the engine that unpacks it, the host, and other developers' pushes."""

import gzip
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.attacks.scene import Scene, Victim
from tests.registry.built import Image, config, descriptor, encoded, layer
from tests.registry.places import Place, door, upload
from tests.registry.tars import END, entry, extended, header, record, records
from tests.registry.test_archives import HIDDEN

MIB = 1024**2
ZEROS = 700  # MiB in a layer that takes long to read
LARGE = bytes(2 * MIB)
ZERO = header(b"dev/zero", kind=b"3", fields={329: b"0000001\0", 337: b"0000005\0"})


def image_of(*layers: list[bytes], **run: Any) -> Image:
    """An image with a program and these layers, each given as its entries."""
    packed = [gzip.compress(b"".join(entries) + END, mtime=0) for entries in layers] or [layer()]
    return Image(
        config=encoded(config(layers=packed, config={"Entrypoint": ["/program"], **run})), layers=packed
    )


def pushed(scene: Scene, who: Victim, app: str, image: Image, **changes: Any) -> httpx.Response:
    """Push an image as a tool does; return the response to the manifest."""
    place = Place(scene.instance, who, app)
    with door(place) as client:
        for blob in image.blobs:
            upload(client, place, blob)
        document = {**image.document, **changes}
        return client.put(
            f"/v2/{app}/manifests/t-{uuid.uuid4().hex[:8]}", content=encoded(document),
            headers={"Content-Type": document["mediaType"]}, timeout=120,
        )  # fmt: skip


def sentence(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["code"] == "MANIFEST_INVALID"
    return str(answer.json()["errors"][0]["message"])


@pytest.fixture
def app(scene: Scene) -> str:
    """A new App of the attacker."""
    name = f"evil-{uuid.uuid4().hex[:8]}"
    scene.dora.create_app(name)
    return name


ACCOUNTS: dict[str, list[list[bytes]]] = {
    "a large file": [[entry(b"etc/group", LARGE)]],
    "a large file in another layer": [
        [entry(b"x", LARGE)],
        [header(b"etc/passwd", kind=b"2", target=b"../x")],
    ],
    "a hard link": [[entry(b"x", LARGE), header(b"etc/group", kind=b"1", target=b"x")]],
    "/etc is a link": [[entry(b"x/group", LARGE)], [header(b"etc", kind=b"2", target=b"/x")]],
    "/dev/zero by a link": [[ZERO, header(b"etc/group", kind=b"2", target=b"/dev/zero")]],
    "/dev/zero by a hard link": [[ZERO, header(b"etc/group", kind=b"1", target=b"dev/zero")]],
    "/dev/zero because /etc is /dev": [
        [ZERO, header(b"dev/passwd", kind=b"2", target=b"zero"), header(b"etc", kind=b"2", target=b"dev")]
    ],
    "hidden by a whiteout": [[entry(b"etc/group", LARGE)], [entry(b"etc/.wh.group")]],
}


@pytest.mark.parametrize("layers", ACCOUNTS.values(), ids=ACCOUNTS.keys())
def test_accounts_that_would_fill_the_engines_memory(
    scene: Scene, app: str, layers: list[list[bytes]]
) -> None:
    assert "Engines read it whole" in sentence(pushed(scene, scene.dora, app, image_of(*layers)))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([header(b"etc/passwd", kind=b"3", fields={329: b"0000001\0", 337: b"0000005\0"})], "a device"),
        ([header(b"etc/passwd", kind=b"6")], "a named pipe"),
        ([header(b"dev/mem", kind=b"3", fields={329: b"0000001\0", 337: b"0000001\0"})], "a device"),
        ([header(b"etc/passwd", kind=b"5")], "a directory in place of a file"),
        ([header(b"a", kind=b"2", target=b"etc"), entry(b"a/passwd", LARGE)], "not a directory"),
        ([extended(record(b"SCHILY.xattr.trusted.overlay.redirect", b"/x")), header(b"etc", kind=b"5")],
         "trusted.overlay.redirect"),
        ([extended(records(path=b"../../etc/cron.d/x")), entry(b"x", b"x")], "outside the image"),
        ([header(b"x", kind=b"1", target=b"/../../etc/shadow")], "outside the image"),
    ],
)  # fmt: skip
def test_entries_that_no_layer_holds(scene: Scene, app: str, entries: list[bytes], words: str) -> None:
    assert words in sentence(pushed(scene, scene.dora, app, image_of(entries)))


def test_a_layer_that_writes_through_a_link_of_another(scene: Scene, app: str) -> None:
    lower = [header(b"sneaky", kind=b"2", target=b"etc")]
    answer = pushed(scene, scene.dora, app, image_of(lower, [entry(b"sneaky/group", LARGE)]))
    assert "which is a link in layer 1" in sentence(answer)


@pytest.mark.parametrize("parts", HIDDEN.values(), ids=HIDDEN.keys())
def test_content_that_only_the_engine_sees(scene: Scene, app: str, parts: list[bytes]) -> None:
    assert sentence(pushed(scene, scene.dora, app, image_of(parts))).startswith("Layer 1 (sha256:")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"StopTimeout": "x"}, "config.StopTimeout in the image configuration is not a whole number."),
        ({"StopSignal": "shutting down"}, "is not a signal"),
        ({"WorkingDir": "/a\0b"}, "has a NUL in it"),
        ({"WorkingDir": "/" + "x" * 300_000}, "longer than a path can be"),
        ({"Env": ["=x"]}, "is not NAME=value"),
        ({"ExposedPorts": {"no space left on device": {}}}, "which is not a port"),
        ({"Healthcheck": {"Timeout": "unauthorized"}}, "is not a whole number"),
        ({"Entrypoint": ["/a"], "entrypoint": ["/b"]}, "only 'Entrypoint' is meant"),
        ({"Labels": {"a": None}}, "is not a string"),
    ],
)
def test_configurations_that_no_engine_reads(scene: Scene, app: str, run: dict[str, Any], words: str) -> None:
    assert words in sentence(pushed(scene, scene.dora, app, image_of(**run)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Layers": []}, "only 'layers' is meant"),
        ({"annotations": {"a": {"b": 1}}}, "is not a string"),
        ({"config": descriptor(b"{}", "application/vnd.oci.empty.v1+json")}, "not a container image"),
        ({"schemaVersion": 2.0}, "is not a whole number"),
        ({"schemaVersion": "2"}, "not of schema version 2"),
    ],
)
def test_manifests_that_readers_understand_differently(
    scene: Scene, app: str, changes: dict[str, Any], words: str
) -> None:
    assert words in sentence(pushed(scene, scene.dora, app, image_of(), **changes))


def test_a_refused_push_spoils_nothing(scene: Scene, app: str) -> None:
    """After it, the attacker's next push and the runs of others still work."""
    good, bad = layer("program", b"x"), gzip.compress(header(b"pipe", kind=b"6") + END, mtime=0)
    assert "a named pipe" in sentence(pushed(scene, scene.dora, app, Image(layers=[good, bad])))
    assert pushed(scene, scene.dora, app, Image(layers=[good])).status_code == 201
    states = [each["state"] for each in scene.dora.ask("GET", f"/apps/{app}/releases").json()["releases"]]
    assert sorted(states) == ["refused", "valid"]
    scene.ann.wait(scene.ann.submit(scene.app, scene.export, arguments={"do": "summary"}), "SUCCESS")


def bomb(name: bytes) -> bytes:
    """A small layer with a large file of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    pieces = [packer.compress(header(name, size=ZEROS * MIB))]
    pieces += [packer.compress(bytes(MIB)) for _ in range(ZEROS)]
    return b"".join([*pieces, packer.compress(END), packer.flush()])


@contextmanager
def busy(scene: Scene, app: str) -> Iterator[list[threading.Thread]]:
    """The attacker pushes images whose layers take long to read. The configuration does not match the layers,
    so the images are refused in the end."""
    images = [Image(config=image_of().config, layers=[bomb(b"%d" % number)]) for number in range(2)]
    threads = [threading.Thread(target=pushed, args=(scene, scene.dora, app, image)) for image in images]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.join()


def test_layers_that_take_long_to_read_keep_nobody_else_waiting(scene: Scene, app: str) -> None:
    other = Image(layers=[layer("program", uuid.uuid4().bytes)])
    with busy(scene, app) as threads:
        time.sleep(1)
        assert pushed(scene, scene.erik, scene.other_app, other).status_code == 201
        assert any(thread.is_alive() for thread in threads), "it was done while the attacker's were read"


@pytest.mark.parametrize("app_id", ["manifests", "blobs", "grid", "v2"])
def test_app_ids_that_addresses_use(scene: Scene, app_id: str) -> None:
    answer = scene.dora.ask("POST", "/apps", expect=400, json={
        "id": app_id, "title": "x", "description": "", "arguments": {"type": "object"},
        "resources": {"cpus": 1.0, "memory": 64 * MIB, "disk": 16 * MIB, "time": 60},
    })  # fmt: skip
    assert "use this word" in answer.text
