"""What is refused at a push, and that nothing hostile gets through or breaks the judge."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.oci import attestations, configurations, manifests, pushed
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.configurations import ImageProgram
from gridapps.oci.documents import Invalid
from gridapps.oci.indexes import ImageIndex, Platform
from gridapps.oci.manifests import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, ImageManifest
from tests.registry.built import (
    CONFIG,
    IN_TOTO,
    LAYER,
    PROVENANCE,
    Attestation,
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


def parse(
    document: Any, *, media_type: str = OCI_MANIFEST, max_layers: int = 5
) -> ImageManifest | ImageIndex:
    content = document if isinstance(document, bytes) else encoded(document)
    return pushed.decode_image(content, media_type=media_type, max_image=MAX_IMAGE, max_layers=max_layers)


def program(**changes: Any) -> ImageProgram:
    """The judge's answer to an image with this configuration."""
    image = Image(config=encoded(config(**changes)))
    parsed = parse(image.document)
    assert isinstance(parsed, ImageManifest)
    return configurations.judge_configuration(image.config, manifest=parsed)


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
    assert isinstance(parsed, ImageManifest)
    assert parsed.size == sum(map(len, Image().blobs))
    assert program() == ImageProgram(["/program"], ["--fast"], [diff_id(layer())])


def test_the_manifest_of_dockers_own_format_is_taken() -> None:
    document = changed(mediaType=DOCKER_MANIFEST)
    document["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert isinstance(parse(document, media_type=DOCKER_MANIFEST), ImageManifest)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (changed(schemaVersion=1), "schema version 2"),
        (changed(fsLayers=[]), "schema version 2"),
        (changed(mediaType=DOCKER_MANIFEST), "mediaType differs from its Content-Type"),
        (changed(manifests=[]), "also an index"),
        (changed(layers=[]), "no layers"),
        (changed(layers=None), "no layers"),
        (changed(layers={}), "value other than a list"),
        (changed(layers=["x"]), "values other than objects"),
        (changed(layers=[descriptor(b"x", LAYER)] * 6), "has 6 layers; this instance allows 5"),
        (changed(config=None), "no media type"),
        (changed(config=descriptor(b"x", "application/vnd.oci.empty.v1+json")), "not a container image"),
        (changed(config=descriptor(b"x", CONFIG, size=5_000_000) | {"size": 5_000_000}), "larger than"),
        (with_layer(size=MAX_IMAGE), "too large"),
        (with_layer(size=-1), "no size"),
        (with_layer(size=True), "no size"),
        (with_layer(size=1.0), "no size"),
        (with_layer(size="1"), "no size"),
        (with_layer(size=2**63), "no size"),
        (with_layer(annotations={"a": 1}), "layers.0.annotations.a in the manifest is not a string."),
        (with_layer(annotations=["a"]), "layers.0.annotations in the manifest is not an object."),
        (with_layer(data=1), "layers.0.data in the manifest is not a string."),
        (
            with_layer(platform={"os.features": "x"}),
            "layers.0.platform.os.features in the manifest is not a list",
        ),
        (with_layer(platform={"OS": "x"}), "layers.0.platform in the manifest has 'OS'"),
        (changed(schemaVersion=2.0), "schemaVersion in the manifest is not a whole number."),
        (changed(annotations={"a": None}), "annotations.a in the manifest is not a string."),
        (changed(artifactType=1), "artifactType in the manifest is not a string."),
        (with_layer(digest="sha512:" + "0" * 128), "no sha256 digest"),
        (with_layer(digest="sha256:" + "A" * 64), "no sha256 digest"),
        (with_layer(digest="sha256:" + "0" * 64 + "\n"), "no sha256 digest"),
        (with_layer(urls=["https://elsewhere.example/layer"]), "refers to another location"),
        (with_layer(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "foreign layer"),
        (with_layer(mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar"), "foreign layer"),
        (with_layer(mediaType="application/vnd.oci.image.layer.v1.tar+zstd"), "--compression-format gzip"),
        (with_layer(mediaType="application/vnd.docker.image.rootfs.diff.tar.zstd"), "compression=gzip"),
        (with_layer(mediaType="application/vnd.oci.image.layer.v1.tar+xz"), "only tar and tar with gzip"),
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
        (b'{"schemaVersion": 1e999}', "not valid JSON"),
        (b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64"),
        (b'{"a": [' + b"{}," * 20_000 + b"{}]}", "more than 20000 objects"),
        (b'{"a": [{"b": {"c": 1, "c": 2}}]}', "a name twice"),
        (b'{"a": ["\\ud800"]}', "half of a surrogate pair"),
        (b'{"\\udc00": 1}', "half of a surrogate pair"),
    ],
)
def test_what_is_no_document_is_refused(text: bytes, words: str) -> None:
    assert words in refusal(text)


@pytest.mark.parametrize(
    "media_type", ["", "text/html", "application/vnd.docker.distribution.manifest.v1+prettyjws"]
)
def test_other_media_types_are_refused(media_type: str) -> None:
    assert "is not supported" in refusal(Image().document, media_type=media_type)


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


# Each would have been taken, and then have failed on every node, some with words like "timeout" in the text.
FIELDS: list[tuple[str, Any, str]] = [
    ("StopTimeout", "x", "config.StopTimeout in the image configuration is not a whole number."),
    ("StopTimeout", 1.0, "is not a whole number"),
    ("StopTimeout", True, "is not a whole number"),
    ("StopTimeout", 2**64, "is out of range"),
    ("StopTimeout", -2, "is out of range"),
    (
        "stopTimeout",
        1,
        "config in the image configuration has 'stopTimeout' where only 'StopTimeout' is meant",
    ),
    ("STOP\u017fIGNAL", "TERM", "STOP"),
    ("StopSignal", 15, "is not a string"),
    ("StopSignal", "SIGNOTHING", "is not a signal such as SIGTERM"),
    ("StopSignal", "SIGTERM\nx", "is not a signal"),
    ("WorkingDir", "/a\0b", "config.WorkingDir in the image configuration has a NUL in it."),
    ("WorkingDir", "/" + "x" * 300_000, "is longer than a path can be"),
    ("WorkingDir", "/x" * 3000, "is longer than a path can be"),
    ("WorkingDir", "here", "is not an absolute path"),
    ("Env", ["=x"], "config.Env.0 in the image configuration is not NAME=value."),
    ("Env", ["A=1", "B"], "config.Env.1 in the image configuration is not NAME=value."),
    ("Env", [""], "is not NAME=value"),
    ("Env", {"A": "1"}, "config.Env in the image configuration is not a list."),
    ("Env", [None], "config.Env.0 in the image configuration is not a string."),
    ("Labels", {"a": 1}, "config.Labels.a in the image configuration is not a string."),
    ("Labels", ["a"], "config.Labels in the image configuration is not an object."),
    (
        "ExposedPorts",
        {"80/tcp": 1},
        "config.ExposedPorts.80/tcp in the image configuration is not an object.",
    ),
    ("ExposedPorts", {"shutting down": {}}, "has 'shutting down', which is not a port such as 80/tcp."),
    ("ExposedPorts", ["80/tcp"], "is not an object"),
    ("Volumes", {"/grid": 1}, "is not an object"),
    ("Volumes", ["/grid"], "config.Volumes in the image configuration is not an object."),
    ("Healthcheck", "CMD true", "config.Healthcheck in the image configuration is not an object."),
    (
        "Healthcheck",
        {"Interval": "30s"},
        "config.Healthcheck.Interval in the image configuration is not a whole",
    ),
    (
        "Healthcheck",
        {"Test": "CMD true"},
        "config.Healthcheck.Test in the image configuration is not a list.",
    ),
    ("Healthcheck", {"timeout": 1}, "only 'Timeout' is meant"),
    ("OnBuild", "RUN true", "config.OnBuild in the image configuration is not a list."),
    ("Shell", "sh", "config.Shell in the image configuration is not a list."),
    ("ArgsEscaped", "true", "config.ArgsEscaped in the image configuration is neither true nor false."),
    ("Tty", 0, "is neither true nor false"),
    ("User", "x" * 300, "is out of range"),
    ("Hostname", 1, "config.Hostname in the image configuration is not a string."),
]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {}}, "no ENTRYPOINT"),
        ({"config": None}, "no ENTRYPOINT"),
        ({"config": {"Entrypoint": []}}, "no ENTRYPOINT"),
        ({"config": {"Entrypoint": [""]}}, "no ENTRYPOINT"),
        (
            {"config": {"Entrypoint": "/program"}},
            "config.Entrypoint in the image configuration is not a list.",
        ),
        ({"config": {"Entrypoint": [1]}}, "config.Entrypoint.0 in the image configuration is not a string."),
        ({"config": {"Entrypoint": ["/a\0b"]}}, "config.Entrypoint.0 in the image configuration has a NUL"),
        ({"config": {"Entrypoint": ["/\ud800"]}}, "half of a surrogate pair"),
        ({"config": {"Entrypoint": ["/a"], "entrypoint": ["/b"]}}, "only 'Entrypoint' is meant"),
        ({"config": {"Entrypoint": ["/a"], "Cmd": ["x" * 70_000]}}, "longer than"),
        ({"config": {"Entrypoint": ["/a"], "Env": ["A=" + "x" * 70_000]}}, "ENV is longer than"),
        (
            {"config": {"Entrypoint": ["/a"], "Env": ["A=1\0"]}},
            "config.Env.0 in the image configuration has a NUL",
        ),
        (
            {"config": {"Entrypoint": ["/a"], "WorkingDir": 1}},
            "config.WorkingDir in the image configuration is not a string",
        ),
        ({"config": {"Entrypoint": ["/a"], "User": {}}}, "User in the image configuration is not a string"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"/data": {}}}}, "VOLUME '/data'"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"/grid/../etc": {}}}}, "VOLUME '/grid/../etc'"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"/gridlock": {}}}}, "VOLUME '/gridlock'"),
        ({"config": {"Entrypoint": ["/a"], "Volumes": {"grid": {}}}}, "VOLUME 'grid'"),
        ({"architecture": "arm64"}, "built for linux/arm64"),
        ({"os": "windows"}, "built for windows/amd64"),
        ({"os": None}, "built for an unknown platform"),
        ({"os": "linux\0"}, "built for an unknown platform"),
        *[({"config": {"Entrypoint": ["/a"], name: value}}, words) for name, value, words in FIELDS],
        ({"created": "yesterday"}, "created in the image configuration is not a time"),
        ({"created": "2026-02-30T00:00:00Z"}, "created in the image configuration is not a time"),
        ({"created": "2026-01-31T12:00:00"}, "created in the image configuration is not a time"),
        ({"created": 0}, "created in the image configuration is not a string"),
        ({"history": {}}, "history in the image configuration is not a list"),
        ({"history": [{"created": ""}]}, "history.0.created in the image configuration is not a time"),
        (
            {"history": [{"empty_layer": "yes"}]},
            "history.0.empty_layer in the image configuration is neither",
        ),
        ({"history": [{"Created_By": "x"}]}, "history.0 in the image configuration has 'Created_By'"),
        ({"history": [None]}, "history.0 in the image configuration is not an object"),
        ({"container_config": {"StopTimeout": "x"}}, "container_config.StopTimeout in"),
        ({"author": 1}, "author in the image configuration is not a string"),
        ({"Size": 1.5}, "Size in the image configuration is not a whole number"),
        ({"Size": 2**63}, "Size in the image configuration is out of range"),
        ({"size": 1}, "only 'Size' is meant"),
        ({"os.features": "x"}, "os.features in the image configuration is not a list"),
        ({"rootfs": {"type": "layers", "diff_ids": [1]}}, "rootfs.diff_ids.0 in the image configuration is"),
        ({"rootfs": {"type": "layers", "Diff_Ids": []}}, "only 'diff_ids' is meant"),
        ({"x": {"a": "\udfff"}}, "half of a surrogate pair"),
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
    assert isinstance(parsed, ImageManifest)
    with pytest.raises(Invalid, match="differs from the one that the manifest names"):
        configurations.judge_configuration(encoded(config(os="linux ")), manifest=parsed)


ATTESTATION = {"os": "unknown", "architecture": "unknown"}
ARM = {"os": "linux", "architecture": "arm64", "variant": "v8"}


def test_an_index_may_hold_other_platforms_and_attestations() -> None:
    image, other = Image(), Image(layers=[b"other"])
    document = index(
        *[entry(other.manifest, ARM)] * 48, entry(image.manifest), entry(other.manifest, ATTESTATION)
    )
    parsed = parse(document, media_type=OCI_INDEX)
    assert isinstance(parsed, ImageIndex)
    ours = [each.blob.digest for each in parsed.entries if each.platform is Platform.OURS]
    assert ours == [manifests.digest_of(image.manifest)]


def for_platform(**platform: Any) -> dict[str, Any]:
    return entry(Image().manifest, platform)


AMD64 = for_platform(os="linux", architecture="amd64")


ATTESTED = Attestation(Image().manifest).entry


def attested(**changes: Any) -> dict[str, Any]:
    return ATTESTED | changes


def annotated(target: Any, *, kind: Any = "attestation-manifest") -> dict[str, Any]:
    names = ("vnd.docker.reference.digest", "vnd.docker.reference.type")
    return attested(annotations=dict(zip(names, (target, kind), strict=True)))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (index(), "no entries"),
        (index(AMD64, AMD64 | {"size": 1}), "twice, and differently"),
        (
            index(AMD64, ATTESTED | {"digest": AMD64["digest"], "size": AMD64["size"]}),
            "twice, and differently",
        ),
        (index(ATTESTED), "is no image of the index"),
        (index(AMD64, attested(platform={"os": "linux", "architecture": "amd64"})), "unknown/unknown"),
        (index(AMD64, attested(platform=None)), "unknown/unknown"),
        (index(AMD64, attested(mediaType=DOCKER_MANIFEST)), "is an attestation of type"),
        (index(AMD64, attested(mediaType=OCI_INDEX)), "is an attestation of type"),
        (index(AMD64, annotated("sha256:1")), "is no sha256 digest"),
        (index(AMD64, annotated(None)), "is no sha256 digest"),
        (index(AMD64, annotated([AMD64["digest"]])), "is no sha256 digest"),
        (index(AMD64, annotated(ATTESTED["digest"])), "is no image of the index"),
        (index(AMD64, annotated("sha256:" + "0" * 64)), "is no image of the index"),
        (index(AMD64, annotated(AMD64["digest"], kind="other")), "only attestation-manifest is known"),
        (index(AMD64, annotated(AMD64["digest"], kind=1)), "only attestation-manifest is known"),
        (index(AMD64, for_platform(os="linux", architecture="x86_64")), "as Go spells it"),
        (index(AMD64, for_platform(os="linux", architecture="x86-64")), "as Go spells it"),
        (index(AMD64, for_platform(os="Linux", architecture="amd64")), "as Go spells it"),
        (index(AMD64, for_platform(os="", architecture="amd64")), "as Go spells it"),
        (index(AMD64, for_platform(architecture="amd64")), "as Go spells it"),
        (index(AMD64, for_platform(os="linux", OS="linux", architecture="arm")), "only 'os' is meant"),
        (index(AMD64, for_platform(variant="v2")), "as Go spells it"),
        (index(*[AMD64] * 65), "65 entries"),
        (index(AMD64 | {"mediaType": LAYER}), "only images, attestations and indexes"),
        (index(AMD64 | {"urls": ["https://elsewhere.example"]}), "refers to another location"),
        (index(AMD64) | {"layers": [{}]}, "also a manifest"),
        (index(AMD64) | {"config": {}}, "also a manifest"),
    ],
)
def test_indexes_are_refused_with_the_reason(document: dict[str, Any], words: str) -> None:
    assert words in refusal(document, media_type=OCI_INDEX)


LAYOUTS = ("image", "artifact", "subjectless")


def part(content: bytes) -> pushed.Part:
    """What a manifest that is pushed by its digest is."""
    return pushed.decode_part(content, media_type=OCI_MANIFEST, max_image=MAX_IMAGE, max_layers=5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_attestations_of_builders_are_recognized(layout: str) -> None:
    predicates = (PROVENANCE, "https://spdx.dev/Document", "https://cyclonedx.org/bom")
    attestation = Attestation(Image().manifest, layout, predicates)
    parsed = part(attestation.manifest)
    assert isinstance(parsed, AttestationManifest)
    assert [piece.kind for piece in parsed.pieces] == ["attestation", "sbom", "sbom"]
    assert [blob.size for blob in parsed.blobs] == [len(blob) for blob in attestation.blobs]
    assert parsed.subject == (manifests.digest_of(Image().manifest) if layout == "artifact" else "")
    attestations.judge_configuration(attestation.blobs[0], parsed)


def unknown(**changes: Any) -> dict[str, Any]:
    """The configuration of a program for the platform of attestations."""
    return config(os="unknown", architecture="unknown", **changes)


def document_of(**changes: Any) -> dict[str, Any]:
    return descriptor(b"x", IN_TOTO, annotations={"in-toto.io/predicate-type": PROVENANCE}) | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": [document_of(), descriptor(b"x", LAYER)]}, "Document 2 of the attestation is of type"),
        ({"layers": [document_of(annotations={})]}, "has no annotation in-toto.io/predicate-type"),
        ({"layers": [document_of(annotations={"in-toto.io/predicate-type": 1})]}, "has no annotation"),
        ({"layers": [document_of(annotations={"In-toto.io/predicate-type": "x"})]}, "only 'in-toto.io/"),
        ({"layers": [document_of(size=17_000_000)]}, "too large"),
        ({"layers": [document_of(urls=["https://elsewhere.example"])]}, "refers to another location"),
        ({"layers": [document_of()] * 33}, "33 documents"),
        ({"manifests": []}, "also an index"),
        ({"annotations": {"a": 1}}, "annotations.a in the manifest is not a string"),
        ({"annotations": {"a": "x" * 300_000}}, "larger than"),
        ({"artifactType": "application/x"}, "has the artifactType"),
        ({"config": descriptor(b"x", CONFIG) | {"size": 100_000}}, "larger than"),
    ],
)
def test_malformed_attestations_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as raised:
        part(Attestation(Image().manifest, changes=changes).manifest)
    assert words in str(raised.value)


def test_an_artifact_without_documents_or_with_a_foreign_configuration_is_refused() -> None:
    for changes, words in (
        ({"layers": []}, "0 documents"),
        ({"config": descriptor(b"x", LAYER)}, "configuration of the attestation is of type"),
        ({"subject": {"digest": "x"}}, "The subject has no media type"),
    ):
        with pytest.raises(Invalid, match=words):
            part(Attestation(Image().manifest, "artifact", changes=changes).manifest)


@pytest.mark.parametrize(
    ("layout", "content", "words"),
    [
        ("image", config(), "is that of a program"),
        ("image", unknown(), "is that of a program"),
        (
            "image",
            unknown(config={"Cmd": ["/a"]}),
            "is that of a program",
        ),
        ("image", config(os="linux", architecture="unknown", config={}), "is that of a program"),
        ("image", unknown(config={"Env": [1]}), "config.Env.0"),
        ("artifact", {"os": "linux"}, "is not empty"),
    ],
)
def test_an_attestation_with_a_program_is_refused(layout: str, content: Any, words: str) -> None:
    attestation = Attestation(Image().manifest, layout, config=encoded(content))
    parsed = part(attestation.manifest)
    assert isinstance(parsed, AttestationManifest)
    with pytest.raises(Invalid, match=words):
        attestations.judge_configuration(attestation.config, parsed)
    with pytest.raises(Invalid, match="differs from the one"):
        attestations.judge_configuration(attestation.config + b" ", parsed)


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
     ("manifests", 0, "platform"), ("manifests", 0, "platform", "os"), ("manifests", 1),
     ("manifests", 1, "mediaType"), ("manifests", 1, "platform"), ("manifests", 1, "annotations"),
     ("manifests", 1, "annotations", "vnd.docker.reference.type"),
     ("manifests", 1, "annotations", "vnd.docker.reference.digest")]
)  # fmt: skip
IN_ATTESTATIONS = st.sampled_from(
    [("artifactType",), ("subject",), ("subject", "digest"), ("config",), ("config", "mediaType"),
     ("layers",), ("layers", 0), ("layers", 0, "mediaType"), ("layers", 0, "annotations"), ("mediaType",),
     ("layers", 0, "annotations", "in-toto.io/predicate-type")]
)  # fmt: skip


@given(path=PATHS, value=JSON, kind=st.sampled_from([OCI_MANIFEST, OCI_INDEX]))
def test_anything_in_any_place_is_judged(path: tuple[str | int, ...], value: Any, kind: str) -> None:
    spoiled = spoil(Image().document if kind == OCI_MANIFEST else index(AMD64, ATTESTED), path, value)
    if spoiled is None:
        return
    parsed = judged(lambda: parse(spoiled, media_type=kind))
    assert not isinstance(parsed, ImageManifest) or 0 < parsed.size <= MAX_IMAGE
    if isinstance(parsed, ImageIndex):
        images = {each.blob.digest for each in parsed.entries if not each.attested}
        assert all(each.attested in images for each in parsed.entries if each.attested)


@given(path=IN_ATTESTATIONS, value=JSON, layout=st.sampled_from(LAYOUTS))
def test_anything_in_any_place_of_an_attestation_is_judged(
    path: tuple[str | int, ...], value: Any, layout: str
) -> None:
    spoiled = spoil(json.loads(Attestation(Image().manifest, layout).manifest), path, value)
    if spoiled is None:
        return
    parsed = judged(lambda: part(encoded(spoiled)))
    if isinstance(parsed, AttestationManifest):
        assert all(piece.blob.media_type == IN_TOTO for piece in parsed.pieces)


def spoil(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy with the value in this place; None if there is no such place."""
    spoiled = json.loads(json.dumps(document))
    place = spoiled
    for step in path[:-1]:
        place = place.get(step) if isinstance(place, dict) else place[step] if place else None
        if place is None:
            return None
    place[path[-1]] = value
    return spoiled


@given(content=st.binary())
def test_any_bytes_are_judged(content: bytes) -> None:
    with pytest.raises(Invalid):
        parse(content)


@given(value=JSON, name=st.sampled_from(["config", "rootfs", "os", "architecture"]))
def test_any_configuration_is_judged(value: Any, name: str) -> None:
    found = judged(lambda: program(**{name: value}))
    assert found is None or found.entrypoint


OF_DOCKER = {
    "architecture": "amd64", "os": "linux", "docker_version": "20.10.24+dfsg1", "container": "0" * 64,
    "created": "2026-11-28T17:33:08.123456789Z", "author": "",
    "config": {
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False,
        "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False,
        "Env": ["PATH=/bin:/usr/bin", "EMPTY=", "URL=a=b"], "Cmd": None, "Image": "sha256:" + "0" * 64,
        "Volumes": None, "WorkingDir": "/a/b", "Entrypoint": ["/bin/ls"], "OnBuild": None,
        "Labels": {"a": "b", "A": "c"}, "ExposedPorts": {"80/tcp": {}, "8000": {}},
        "StopSignal": "SIGRTMIN+3", "StopTimeout": 10, "Shell": ["/bin/sh", "-c"], "MacAddress": "",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000, "Timeout": 0, "Retries": 3},
    },
    "container_config": {"Hostname": "e1f", "Env": ["A=b"], "Cmd": ["/bin/sh", "-c", "#(nop) CMD"]},
    "history": [
        {"created": "2026-11-28T17:33:08Z", "comment": "Imported from -"},
        {"created": "2026-11-28T17:33:08.1+01:00", "created_by": "ENTRYPOINT", "empty_layer": True},
    ],
}  # fmt: skip
OF_BUILDKIT = {
    "architecture": "amd64", "os": "linux", "variant": "", "created": "0001-01-01T00:00:00Z",
    "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/ls"], "WorkingDir": "/", "ArgsEscaped": True},
    "history": [{"created_by": "COPY x / # buildkit", "comment": "buildkit.dockerfile.v0"}],
    "moby.buildkit.buildinfo.v1": "e30=", "moby.buildkit.cache.v0": {"layers": []}, "mobyVersion": 1.5e3,
}  # fmt: skip
OF_PODMAN = {
    "created": "2026-11-28T17:35:24.88Z", "architecture": "amd64", "os": "linux",
    "config": {
        "Env": ["PATH=/bin"], "Entrypoint": ["/bin/ls"], "WorkingDir": "/a/b/c",
        "Labels": {"io.buildah.version": "1.28.2"}, "StopSignal": "15", "ExposedPorts": {"80": {}},
    },
    "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop)", "empty_layer": True}],
}  # fmt: skip


@pytest.mark.parametrize("configuration", [OF_DOCKER, OF_BUILDKIT, OF_PODMAN])
def test_configurations_of_tools_are_taken(configuration: dict[str, Any]) -> None:
    assert program(**configuration).entrypoint == ["/bin/ls"]


@given(value=JSON, name=st.sampled_from([name for name, _, _ in FIELDS]))
def test_any_value_of_a_field_is_judged(value: Any, name: str) -> None:
    found = judged(lambda: program(config={"Entrypoint": ["/a"], name: value}))
    assert found is None or found.entrypoint == ["/a"]
