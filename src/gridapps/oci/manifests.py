"""Image manifests, checked without the content that they name.

The engine that pulls an image is written in Go. `documents` refuses what its JSON reader and this one could
understand differently. Sources: OCI image specification 1.0, Docker image manifest version 2 schema 2.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gridapps.oci import wire_types
from gridapps.oci.documents import Ambiguous, Document, Invalid, read_document
from gridapps.oci.wire_types import typed

MAX_MANIFEST = 4 * 1024**2  # bytes
MAX_CONFIG = 4 * 1024**2  # bytes
NO_LIMIT = 2**62  # on images that were judged when they were pushed

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


@dataclass(frozen=True)
class Blob:
    """A configuration or layer that a manifest names."""

    media_type: str
    digest: str
    size: int  # bytes, as declared


class CompressedWithZstd(Invalid):
    """Layers have a compression that not every engine unpacks."""

    def __init__(self, number: int, layers: Sequence[Blob]) -> None:
        super().__init__(
            f"Layer {number} is compressed with zstd, which not every engine unpacks. Push it with gzip: "
            "docker buildx build --output type=image,push=true,compression=gzip,force-compression=true, or "
            "podman push (skopeo copy) --compression-format gzip --force-compression."
        )
        self.digests = [layer.digest for layer in layers]


@dataclass(frozen=True)
class ImageManifest:
    """A well-formed image manifest."""

    config: Blob
    layers: Sequence[Blob]

    @property
    def blobs(self) -> Sequence[Blob]:
        """The configuration and the layers."""
        return [self.config, *self.layers]

    @property
    def size(self) -> int:
        """Bytes of the configuration and the compressed layers, as declared."""
        return sum(blob.size for blob in self.blobs)

    @property
    def named(self) -> Sequence[str]:
        """The digests of everything that it names."""
        return [blob.digest for blob in self.blobs]


@dataclass(frozen=True)
class Received:
    """A manifest or index as it arrived, decoded."""

    size: int  # bytes
    media_type: str  # its Content-Type
    document: Document | Ambiguous  # or why it cannot be read

    def opened(self, *, limit: int) -> Document:
        """The document, if it has at most `limit` bytes, and the version and media type that it should have.

        Raises Invalid.
        """
        if self.size > limit:
            raise Invalid(f"The manifest is larger than {limit} bytes.")
        if isinstance(self.document, Ambiguous):
            raise self.document
        if self.document.get("schemaVersion") != 2 or self.document.get("fsLayers") is not None:
            raise Invalid("The manifest is not of schema version 2.")
        declared = self.document.get("mediaType")
        optional = self.media_type in (OCI_MANIFEST, OCI_INDEX)
        if declared != self.media_type and not (declared is None and optional):
            raise Invalid("The manifest's mediaType differs from its Content-Type.")
        return self.document


def decoded(content: bytes, *, media_type: str) -> Received:
    """Decode a manifest or index."""
    document: Document | Ambiguous
    try:
        document = read_document(content, what="The manifest").knowing(_MANIFEST)
    except Ambiguous as error:
        document = error
    return Received(len(content), media_type, document)


def digest_of(content: bytes) -> str:
    """The digest under which the registry knows these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse_manifest(received: Received, *, max_image: int, max_layers: int) -> ImageManifest:
    """Parse and check an image's manifest, without the content that it names. Raises Invalid."""
    document = received.opened(limit=MAX_MANIFEST)
    if document.get("subject") is not None:
        raise Invalid("An image must not have a subject. Attachments are pushed by their digest.")
    if document.get("manifests") is not None:
        raise Invalid("The manifest is also an index; it must be one of the two.")
    config = described(document.document("config"), "The configuration")
    if config.media_type not in CONFIGS:
        raise Invalid(f"This is not a container image: its configuration is of type {config.media_type!r}.")
    if config.size > MAX_CONFIG:
        raise Invalid(f"The image configuration is larger than {MAX_CONFIG} bytes.")
    entries = enumerate(document.documents("layers"), 1)
    layers = [described(entry, f"Layer {number}") for number, entry in entries]
    if not layers:
        raise Invalid("The image has no layers.")
    if len(layers) > max_layers:
        raise Invalid(f"The image has {len(layers)} layers; this instance allows {max_layers}.")
    _require_supported(layers)
    manifest = ImageManifest(config, layers)
    if manifest.size > max_image:
        raise Invalid(
            f"The image is too large: {manifest.size} bytes compressed; this instance allows "
            f"{max_image} bytes."
        )
    typed(document, wire_types.ManifestOrIndex)
    return manifest


def _require_supported(layers: Sequence[Blob]) -> None:
    for number, layer in enumerate(layers, 1):
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise Invalid(
                f"Layer {number} is a foreign layer, which is stored elsewhere; every layer must be pushed "
                "here."
            )
        if layer.media_type.endswith("zstd"):
            raise CompressedWithZstd(number, [each for each in layers if each.media_type.endswith("zstd")])
        if layer.media_type not in LAYERS:
            raise Invalid(
                f"Layer {number} is of type {layer.media_type!r}; only tar and tar with gzip are unpacked "
                "here."
            )


def described(entry: Document, what: str) -> Blob:
    """What a descriptor names. Raises Invalid with sentences that begin with `what`."""
    entry = entry.knowing(_DESCRIPTOR)
    media_type, digest, size = (entry.get(name) for name in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not re.fullmatch(r"[a-zA-Z0-9.+/_-]{1,200}", media_type):
        raise Invalid(f"{what} has no media type.")
    if not isinstance(digest, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise Invalid(f"{what} has no sha256 digest.")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size < 2**63:
        raise Invalid(f"{what} has no size.")
    if entry.get("urls"):
        raise Invalid(f"{what} refers to another location (urls); everything has to be pushed here.")
    return Blob(media_type, digest, size)
