"""Judges what developers push: manifests, indexes and image configurations, as pure functions of bytes.

The engine that pulls an image is written in Go, whose JSON reader takes `Layers` for `layers` and the last of
two equal names: `documents` refuses what two readers could understand differently. Sources: OCI image
specification 1.0, Docker image manifest version 2 schema 2.
"""

import hashlib
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gridapps.oci import wire_types
from gridapps.oci.documents import Ambiguous, Document, Invalid, read
from gridapps.oci.wire_types import typed
from gridapps.sandbox.profile import MAX_ENVIRONMENT

MAX_MANIFEST = 4 * 1024**2  # bytes
MAX_CONFIG = 4 * 1024**2  # bytes
MAX_CHILDREN = 64
MAX_COMMAND = 64 * 1024  # bytes of ENTRYPOINT and CMD together

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS, INDEXES = (DOCKER_MANIFEST, OCI_MANIFEST), (DOCKER_INDEX, OCI_INDEX)
CONFIGS = ("application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json")
LAYERS = (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)
VOLUMES = ("/grid", "/tmp")  # noqa: S108 - names inside the container

_DESCRIPTOR = ("mediaType", "digest", "size", "urls", "platform", "annotations", "data", "artifactType")
_MANIFEST = (
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "fsLayers",
    "subject",
    "artifactType",
    "annotations",
)
_PLATFORM = ("os", "architecture", "variant", "os.version", "os.features", "features")


@dataclass(frozen=True)
class Blob:
    """A configuration or layer that a manifest names."""

    media_type: str
    digest: str
    size: int  # bytes, as declared


@dataclass(frozen=True)
class Manifest:
    """An image manifest that is well formed."""

    config: Blob
    layers: Sequence[Blob]

    @property
    def size(self) -> int:
        """Bytes of the configuration and the compressed layers, as declared."""
        return self.config.size + sum(layer.size for layer in self.layers)


@dataclass(frozen=True)
class Index:
    """An index with exactly one image for linux/amd64."""

    image: Blob
    children: Sequence[Blob]  # the manifests of every platform


@dataclass(frozen=True)
class Program:
    """What an image runs, and the digests of its layers when unpacked."""

    entrypoint: list[str]
    command: list[str]
    diff_ids: list[str]


def digest_of(content: bytes) -> str:
    """The digest under which the registry knows these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse(content: bytes, *, media_type: str, max_image: int, max_layers: int) -> Manifest | Index:
    """Judge a manifest or index by itself. `media_type` is the Content-Type. Raises Invalid."""
    if media_type not in MANIFESTS + INDEXES:
        raise Invalid(f"The media type {media_type[:200]!r} is not taken: push a schema 2 or OCI image.")
    try:
        document = opened(content, media_type=media_type)
        if document.get("subject") is not None:
            raise Invalid("An image has no subject: what is attached to a release is pushed by its digest.")
        parsed: Manifest | Index
        if media_type in INDEXES:
            parsed = _index(document)
        else:
            parsed = _manifest(document, max_image=max_image, max_layers=max_layers)
    except Ambiguous as error:
        raise Invalid(str(error)) from None
    typed(document, wire_types.Manifest)
    return parsed


def opened(content: bytes, *, media_type: str, limit: int = MAX_MANIFEST) -> Document:
    """A manifest or index of at most `limit` bytes whose version and media type are what they should be.

    Raises Invalid and documents.Ambiguous.
    """
    if len(content) > limit:
        raise Invalid(f"The manifest is larger than {limit} bytes.")
    document = read(content, what="The manifest").knowing(_MANIFEST)
    if document.get("schemaVersion") != 2 or document.get("fsLayers") is not None:
        raise Invalid("The manifest is not of schema version 2.")
    declared = document.get("mediaType")
    if declared != media_type and not (declared is None and media_type in (OCI_MANIFEST, OCI_INDEX)):
        raise Invalid("The manifest's mediaType is not the Content-Type that it was sent with.")
    return document


def has_subject(content: bytes) -> bool:
    """Whether this is a manifest that says what it belongs to. What cannot be read says nothing."""
    try:
        return read(content, what="The manifest").knowing(_MANIFEST).get("subject") is not None
    except Ambiguous:
        return False


def program(content: bytes, *, manifest: Manifest) -> Program:
    """Judge the image configuration that belongs to the manifest. Raises Invalid with every reason."""
    if len(content) != manifest.config.size or digest_of(content) != manifest.config.digest:
        raise Invalid("The image configuration is not the one that the manifest names.")
    try:
        document = read(content, what="The image configuration")
    except Ambiguous as error:
        raise Invalid(str(error)) from None
    configuration = typed(document, wire_types.Configuration)
    run = configuration.config or wire_types.Run()
    entrypoint, command, environment = run.entrypoint or [], run.cmd or [], run.env or []
    reasons = []
    platform = _platform(configuration.os, configuration.architecture)
    if platform != "linux/amd64":
        reasons.append(
            f"The image is built for {platform}; build it for linux/amd64 (--platform linux/amd64)."
        )
    if not entrypoint or not entrypoint[0]:
        reasons.append('The image has no ENTRYPOINT; add one to the Dockerfile: ENTRYPOINT ["/program"].')
    if sum(len(word.encode()) + 1 for word in entrypoint + command) > MAX_COMMAND:
        reasons.append(f"ENTRYPOINT and CMD are longer than {MAX_COMMAND} bytes together.")
    if sum(len(word.encode()) + 1 for word in environment) > MAX_ENVIRONMENT:
        reasons.append(f"ENV is longer than {MAX_ENVIRONMENT} bytes.")
    reasons += [
        f"The image declares VOLUME {name[:200]!r}; only /grid and /tmp are writable."
        for name in run.volumes or ()
        if not _may_write(name)
    ]
    rootfs = configuration.rootfs
    layers = (rootfs and rootfs.diff_ids) or []
    named = all(re.fullmatch(r"sha256:[0-9a-f]{64}", layer) for layer in layers)
    if rootfs is None or rootfs.type != "layers" or len(layers) != len(manifest.layers) or not named:
        reasons.append("The image configuration does not list the layers of the manifest.")
    if reasons:
        raise Invalid(*reasons)
    return Program(entrypoint, command, layers)


def _manifest(document: Document, *, max_image: int, max_layers: int) -> Manifest:
    if document.get("manifests") is not None:
        raise Invalid("The manifest is an index as well; it has to be one of the two.")
    config = described(document.document("config"), "The configuration")
    if config.media_type not in CONFIGS:
        raise Invalid(f"This is not a container image: its configuration is of type {config.media_type!r}.")
    if config.size > MAX_CONFIG:
        raise Invalid(f"The image configuration is larger than {MAX_CONFIG} bytes.")
    layers = [_layer(entry, number) for number, entry in enumerate(document.documents("layers"), 1)]
    if not layers:
        raise Invalid("The image has no layers.")
    if len(layers) > max_layers:
        raise Invalid(f"The image has {len(layers)} layers; this instance takes {max_layers}.")
    manifest = Manifest(config, layers)
    if manifest.size > max_image:
        raise Invalid(
            f"The image is too large: {manifest.size} bytes compressed; this instance takes {max_image}."
        )
    return manifest


def _layer(entry: Document, number: int) -> Blob:
    layer = described(entry, f"Layer {number}")
    if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        raise Invalid(
            f"Layer {number} is a foreign layer, which lies elsewhere; every layer has to be pushed here."
        )
    if layer.media_type not in LAYERS:
        raise Invalid(
            f"Layer {number} is of type {layer.media_type!r}; only tar and tar with gzip are unpacked here."
        )
    return layer


def _index(document: Document) -> Index:
    if document.get("layers") is not None or document.get("config") is not None:
        raise Invalid("The index is a manifest as well; it has to be one of the two.")
    children = document.documents("manifests")
    if len(children) > MAX_CHILDREN:
        raise Invalid(f"The index has {len(children)} entries; at most {MAX_CHILDREN} are taken.")
    images = [image for child in children if (image := _amd64(child)) is not None]
    named = [described(child, "An entry of the index") for child in children]
    if len(images) != 1:
        raise Invalid(f"The index has {len(images)} images for linux/amd64; exactly one is needed.")
    return Index(images[0], named)


def _amd64(child: Document) -> Blob | None:
    """The child if it is for linux/amd64. Names that an engine would read as something else are refused."""
    blob = described(child, "An entry of the index")
    if blob.media_type not in MANIFESTS:
        raise Invalid(f"An entry of the index is of type {blob.media_type!r}; only images can be in it.")
    platform = child.document("platform").knowing(_PLATFORM)
    system, architecture, variant = (platform.get(name) for name in ("os", "architecture", "variant"))
    plain = all(
        isinstance(name, str) and re.fullmatch(r"[a-z0-9]{1,32}", name) for name in (system, architecture)
    )
    if not plain or architecture in ("x8664", "i386", "aarch64", "armhf", "armel") or system == "macos":
        raise Invalid(
            "Each entry of the index has to name its platform: os and architecture, as Go spells them."
        )
    if (system, architecture) != ("linux", "amd64"):
        return None
    if variant not in (None, "", "v1"):
        raise Invalid(
            f"The image for linux/amd64 is for the variant {str(variant)[:50]!r}; build it for plain amd64."
        )
    return blob


def described(entry: Document, what: str) -> Blob:
    """What a descriptor names. Raises Invalid, in which `what` begins the sentence, and Ambiguous."""
    entry = entry.knowing(_DESCRIPTOR)
    media_type, digest, size = (entry.get(name) for name in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not re.fullmatch(r"[a-zA-Z0-9.+/_-]{1,200}", media_type):
        raise Invalid(f"{what} has no media type.")
    if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise Invalid(f"{what} has no sha256 digest.")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**63:
        raise Invalid(f"{what} has no size.")
    if entry.get("urls"):
        raise Invalid(f"{what} is to be fetched from elsewhere (urls); everything has to be pushed here.")
    return Blob(media_type, digest, size)


def _platform(*names: str | None) -> str:
    plain = [name for name in names if name and re.fullmatch(r"[a-z0-9]{1,32}", name)]
    return "/".join(plain) if len(plain) == 2 else "an unknown platform"


def _may_write(volume: str) -> bool:
    path = posixpath.normpath(volume)
    return any(path == place or path.startswith(place + "/") for place in VOLUMES)
