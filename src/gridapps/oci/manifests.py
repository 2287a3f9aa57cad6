"""Image manifests and indexes, checked without the content that they name.

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
MAX_CHILDREN = 64
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
_PLATFORM = ("os", "architecture", "variant", "os.version", "os.features", "features")


@dataclass(frozen=True)
class Blob:
    """A configuration or layer that a manifest names."""

    media_type: str
    digest: str
    size: int  # bytes, as declared


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
class ImageIndex:
    """A well-formed index with exactly one image for linux/amd64."""

    image: Blob  # the manifest of that image
    children: Sequence[Blob]  # the manifests of all platforms

    @property
    def named(self) -> Sequence[str]:
        """The digests of everything that it names."""
        return [child.digest for child in self.children]


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


def parse_image(received: Received, *, max_image: int, max_layers: int) -> ImageManifest | ImageIndex:
    """Parse and check an image's manifest or index, without the content that it names. Raises Invalid."""
    if received.media_type not in MANIFESTS + INDEXES:
        raise Invalid(
            f"The media type {received.media_type[:200]!r} is not supported: "
            "push a Docker schema 2 or OCI image."
        )
    document = received.opened(limit=MAX_MANIFEST)
    if document.get("subject") is not None:
        raise Invalid("An image must not have a subject. Attachments are pushed by their digest.")
    parsed: ImageManifest | ImageIndex
    if received.media_type in INDEXES:
        parsed = _index(document)
    else:
        parsed = _manifest(document, max_image=max_image, max_layers=max_layers)
    typed(document, wire_types.ManifestOrIndex)
    return parsed


def _manifest(document: Document, *, max_image: int, max_layers: int) -> ImageManifest:
    if document.get("manifests") is not None:
        raise Invalid("The manifest is also an index; it must be one of the two.")
    config = described(document.document("config"), "The configuration")
    if config.media_type not in CONFIGS:
        raise Invalid(f"This is not a container image: its configuration is of type {config.media_type!r}.")
    if config.size > MAX_CONFIG:
        raise Invalid(f"The image configuration is larger than {MAX_CONFIG} bytes.")
    layers = [_layer(entry, number) for number, entry in enumerate(document.documents("layers"), 1)]
    if not layers:
        raise Invalid("The image has no layers.")
    if len(layers) > max_layers:
        raise Invalid(f"The image has {len(layers)} layers; this instance allows {max_layers}.")
    manifest = ImageManifest(config, layers)
    if manifest.size > max_image:
        raise Invalid(
            f"The image is too large: {manifest.size} bytes compressed; this instance allows "
            f"{max_image} bytes."
        )
    return manifest


def _layer(entry: Document, number: int) -> Blob:
    layer = described(entry, f"Layer {number}")
    if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        raise Invalid(
            f"Layer {number} is a foreign layer, which is stored elsewhere; every layer must be pushed here."
        )
    if layer.media_type not in LAYERS:
        raise Invalid(
            f"Layer {number} is of type {layer.media_type!r}; only tar and tar with gzip are unpacked here."
        )
    return layer


def _index(document: Document) -> ImageIndex:
    if document.get("layers") is not None or document.get("config") is not None:
        raise Invalid("The index is also a manifest; it must be one of the two.")
    children = document.documents("manifests")
    if len(children) > MAX_CHILDREN:
        raise Invalid(f"The index has {len(children)} entries; at most {MAX_CHILDREN} are allowed.")
    images = [image for child in children if (image := _amd64(child)) is not None]
    named = [described(child, "An entry of the index") for child in children]
    if len(images) != 1:
        raise Invalid(f"The index has {len(images)} images for linux/amd64; exactly one is needed.")
    return ImageIndex(images[0], named)


def _amd64(child: Document) -> Blob | None:
    """The child if it is for linux/amd64, or None. Raises Invalid for names that engines normalize."""
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
