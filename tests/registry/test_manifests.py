"""What is refused at a push, and that nothing hostile gets through or breaks the judge."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.registry import manifests
from gridapps.registry.manifests import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Index, Invalid, Manifest
from tests.registry.built import (
    CONFIG,
    LAYER,
    Image,
    config,
    descriptor,
    diff_id,
    encoded,
    entry,
    index,
    layer,
)

MAX_IMAGE = 10_000_000


def parse(document: Any, *, media_type: str = OCI_MANIFEST, max_layers: int = 5) -> Manifest | Index:
    content = document if isinstance(document, bytes) else encoded(document)
    return manifests.parse(content, media_type=media_type, max_image=MAX_IMAGE, max_layers=max_layers)


def program(**changes: Any) -> manifests.Program:
    """The judge's answer to an image with this configuration."""
    image = Image(config=encoded(config(**changes)))
    parsed = parse(image.document)
    assert isinstance(parsed, Manifest)
    return manifests.program(image.config, manifest=parsed)


def refusal(document: Any, **options: Any) -> str:
    with pytest.raises(Invalid) as raised:
        parse(document, **options)
    assert all(reason.endswith(".") for reason in raised.value.reasons)
    return str(raised.value)


def changed(**changes: Any) -> dict[str, Any]:
    return Image().document | changes


def with_layer(**changes: Any) -> dict[str, Any]:
    return changed(layers=[descriptor(b"x", LAYER) | changes])


def test_a_good_image_is_taken() -> None:
    parsed = parse(Image().document)
    assert isinstance(parsed, Manifest)
    assert parsed.size == sum(map(len, Image().blobs))
    assert program() == manifests.Program(["/program"], ["--fast"], [diff_id(layer())])


def test_the_manifest_of_dockers_own_format_is_taken() -> None:
    document = changed(mediaType=DOCKER_MANIFEST)
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert isinstance(parse(document, media_type=DOCKER_MANIFEST), Manifest)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (changed(schemaVersion=1), "schema version 2"),
        (changed(fsLayers=[]), "schema version 2"),
        (changed(mediaType=DOCKER_MANIFEST), "mediaType is not the Content-Type"),
        (changed(manifests=[]), "an index as well"),
        (changed(layers=[]), "no layers"),
        (changed(layers=None), "no layers"),
        (changed(layers={}), "something else than a list"),
        (changed(layers=["x"]), "something else than objects"),
        (changed(layers=[descriptor(b"x", LAYER)] * 6), "has 6 layers; this instance takes 5"),
        (changed(config=None), "no media type"),
        (changed(config=descriptor(b"x", "application/vnd.oci.empty.v1+json")), "not a container image"),
        (changed(config=descriptor(b"x", CONFIG, size=5_000_000) | {"size": 5_000_000}), "larger than"),
        (with_layer(size=MAX_IMAGE), "too large"),
        (with_layer(size=-1), "no size"),
        (with_layer(size=True), "no size"),
        (with_layer(size=1.0), "no size"),
        (with_layer(size="1"), "no size"),
        (with_layer(size=2**63), "no size"),
        (with_layer(digest="sha512:" + "0" * 128), "no sha256 digest"),
        (with_layer(digest="sha256:" + "A" * 64), "no sha256 digest"),
        (with_layer(digest="sha256:" + "0" * 64 + "\n"), "no sha256 digest"),
        (with_layer(urls=["https://elsewhere.example/layer"]), "fetched from elsewhere"),
        (with_layer(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "foreign layer"),
        (with_layer(mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar"), "foreign layer"),
        (with_layer(mediaType="application/vnd.oci.image.layer.v1.tar+zstd"), "only tar and tar with gzip"),
    ],
)
def test_manifests_are_refused_with_the_reason(document: dict[str, Any], words: str) -> None:
    assert words in refusal(document)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not valid JSON"),
        (b'\xef\xbb\xbf{"schemaVersion": 2}', "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b'{"a":' * 200_000, "not valid JSON"),
        (b'{"schemaVersion": NaN}', "not valid JSON"),
        (b'{"schemaVersion": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b" " * (manifests.MAX_MANIFEST + 1), "larger than"),
    ],
)
def test_what_is_no_document_is_refused(text: bytes, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize(
    "media_type", ["", "text/html", "application/vnd.docker.distribution.manifest.v1+prettyjws"]
)
def test_other_media_types_are_refused(media_type: str) -> None:
    assert "is not taken" in refusal(Image().document, media_type=media_type)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schemaVersion"', '"layers": [], "schemaVersion"'),  # twice: Python and Go take the last one...
        ('"schemaVersion"', '"Layers": [], "schemaVersion"'),  # ...but Go takes this one as well
        ('"schemaVersion"', '"layer\\u017f": [], "schemaVersion"'),  # and folds a long s
        ('"digest"', '"URLs": ["https://elsewhere.example"], "digest"'),
        ('"digest"', '"\\u017fize": 1, "digest"'),
        ('"digest"', '"digest": "", "digest"'),
    ],
)
def test_what_two_readers_would_understand_differently_is_refused(old: str, new: str) -> None:
    text = Image().manifest.decode()
    assert old in text
    assert any(words in refusal(text.replace(old, new).encode()) for words in ("only '", "a name twice"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {}}, "no ENTRYPOINT"),
        ({"config": None}, "no ENTRYPOINT"),
        ({"config": {"Entrypoint": []}}, "no ENTRYPOINT"),
        ({"config": {"Entrypoint": [""]}}, "no ENTRYPOINT"),
        ({"config": {"Entrypoint": "/program"}}, "something else than a list"),
        ({"config": {"Entrypoint": [1]}}, "not a list of strings"),
        ({"config": {"Entrypoint": ["/a\0b"]}}, "not a list of strings"),
        ({"config": {"Entrypoint": ["/\ud800"]}}, "not a list of strings"),
        ({"config": {"Entrypoint": ["/a"], "entrypoint": ["/b"]}}, "only 'Entrypoint' is meant"),
        ({"config": {"Entrypoint": ["/a"], "Cmd": ["x" * 70_000]}}, "longer than"),
        ({"config": {"Entrypoint": ["/a"], "Env": ["A=" + "x" * 70_000]}}, "ENV is longer than"),
        (
            {"config": {"Entrypoint": ["/a"], "Env": ["A=1\0"]}},
            "Env in the image configuration is not a list",
        ),
        ({"config": {"Entrypoint": ["/a"], "WorkingDir": 1}}, "WorkingDir in the image configuration is not"),
        ({"config": {"Entrypoint": ["/a"], "User": {}}}, "User in the image configuration is not a string"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"/data": {}}}}, "VOLUME '/data'"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"/grid/../etc": {}}}}, "VOLUME '/grid/../etc'"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"/gridlock": {}}}}, "VOLUME '/gridlock'"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"grid": {}}}}, "VOLUME 'grid'"),
        ({"architecture": "arm64"}, "built for linux/arm64"),
        ({"os": "windows"}, "built for windows/amd64"),
        ({"os": None}, "built for an unknown platform"),
        ({"os": "linux\0"}, "built for an unknown platform"),
        ({"OS": "windows"}, "only 'os' is meant"),
        ({"rootfs": {"type": "layers", "diff_ids": []}}, "does not list the layers"),
        ({"rootfs": None}, "does not list the layers"),
        ({"rootfs": {"type": "layers", "diff_ids": ["md5:0"]}}, "does not list the layers"),
    ],
)
def test_configurations_are_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as raised:
        program(**changes)
    assert words in str(raised.value)


def test_every_reason_is_told_at_once() -> None:
    with pytest.raises(Invalid) as raised:
        program(architecture="arm64", config={"Volumes": {"/a": {}, "/b": {}}})
    assert len(raised.value.reasons) == 4


def test_volumes_where_a_program_may_write_are_taken() -> None:
    volumes: dict[str, Any] = {"/grid": {}, "/grid/": {}, "/grid/a": {}, "/tmp/x/../y": {}}
    assert program(config={"Entrypoint": ["/a"], "Volumes": volumes}).entrypoint == ["/a"]


def test_labels_may_be_named_like_fields() -> None:
    labels = {"os": "x", "OS": "y", "Entrypoint": "z"}
    assert program(config={"Entrypoint": ["/a"], "Labels": labels}).entrypoint == ["/a"]


def test_a_configuration_of_another_image_is_refused() -> None:
    parsed = parse(Image().document)
    assert isinstance(parsed, Manifest)
    with pytest.raises(Invalid, match="not the one that the manifest names"):
        manifests.program(encoded(config(os="linux ")), manifest=parsed)


ATTESTATION = {"os": "unknown", "architecture": "unknown"}
ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}


def test_an_index_may_hold_other_platforms_and_attestations() -> None:
    image, other = Image(), Image(layers=[b"other"])
    document = index(
        *[entry(other.manifest, ARM)] * 48, entry(image.manifest), entry(other.manifest, ATTESTATION)
    )
    parsed = parse(document, media_type=OCI_INDEX)
    assert isinstance(parsed, Index)
    assert parsed.image.digest == manifests.digest_of(image.manifest)


def for_platform(**platform: Any) -> dict[str, Any]:
    return entry(Image().manifest, platform)


AMD64 = for_platform(os="linux", architecture="amd64")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (index(), "0 images for linux/amd64"),
        (index(for_platform(**ARM)), "0 images for linux/amd64"),
        (index(AMD64, AMD64), "2 images for linux/amd64"),
        (index(AMD64, for_platform(os="linux", architecture="x86_64")), "as Go spells them"),
        (index(AMD64, for_platform(os="linux", architecture="x86-64")), "as Go spells them"),
        (index(AMD64, for_platform(os="Linux", architecture="amd64")), "as Go spells them"),
        (index(AMD64, for_platform(os="", architecture="amd64")), "as Go spells them"),
        (index(AMD64, for_platform(architecture="amd64")), "as Go spells them"),
        (index(AMD64, for_platform(os="linux", OS="linux", architecture="arm")), "only 'os' is meant"),
        (index(for_platform(os="linux", architecture="amd64", variant="v3")), "variant 'v3'"),
        (index(AMD64, for_platform(os="linux", architecture="amd64", variant="v2")), "variant 'v2'"),
        (index(*[AMD64] * 65), "65 entries"),
        (index(AMD64 | {"mediaType": OCI_INDEX}), "only images can be in it"),
        (index(AMD64 | {"urls": ["https://elsewhere.example"]}), "fetched from elsewhere"),
        (index(AMD64) | {"layers": [{}]}, "a manifest as well"),
        (index(AMD64) | {"config": {}}, "a manifest as well"),
    ],
)
def test_indexes_are_refused_with_the_reason(document: dict[str, Any], words: str) -> None:
    assert words in refusal(document, media_type=OCI_INDEX)


Judged = TypeVar("Judged")


def judged(judge: Callable[[], Judged]) -> Judged | None:
    """What the judge found. Reasons have to be fit for a terminal and a database, whatever was sent."""
    try:
        return judge()
    except Invalid as error:
        reasons = error.reasons
    assert reasons
    assert all(reason.isprintable() and len(reason) < 1000 for reason in reasons)
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
PATHS = st.sampled_from(
    [("schemaVersion",), ("mediaType",), ("config",), ("layers",), ("layers", 0), ("config", "size"),
     ("layers", 0, "digest"), ("layers", 0, "size"), ("layers", 0, "urls"), ("manifests",), ("manifests", 0),
     ("manifests", 0, "platform"), ("manifests", 0, "platform", "os")]
)  # fmt: skip


@given(path=PATHS, value=JSON, kind=st.sampled_from([OCI_MANIFEST, OCI_INDEX]))
def test_anything_in_any_place_is_judged(path: tuple[str | int, ...], value: Any, kind: str) -> None:
    document: Any = Image().document if kind == OCI_MANIFEST else index(AMD64)
    spoiled = json.loads(json.dumps(document))
    place = spoiled
    for step in path[:-1]:
        place = place.get(step) if isinstance(place, dict) else place[step] if place else None
        if place is None:
            return
    place[path[-1]] = value
    parsed = judged(lambda: parse(spoiled, media_type=kind))
    assert not isinstance(parsed, Manifest) or 0 < parsed.size <= MAX_IMAGE


@given(content=st.binary())
def test_any_bytes_are_judged(content: bytes) -> None:
    with pytest.raises(Invalid):
        parse(content)


@given(value=JSON, name=st.sampled_from(["config", "rootfs", "os", "architecture"]))
def test_any_configuration_is_judged(value: Any, name: str) -> None:
    found = judged(lambda: program(**{name: value}))
    assert found is None or found.entrypoint
