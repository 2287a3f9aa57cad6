"""Image indexes, checked without what they name: which entries are images, attestations or further indexes.

An entry without a platform is checked later, by the configuration of its image. Sources: OCI image
specification 1.1, Docker image manifest version 2 schema 2, BuildKit's attestation storage.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from gridapps.oci import stored_manifests, wire_types
from gridapps.oci.documents import Document, Invalid, read_document
from gridapps.oci.manifests import INDEXES, MANIFESTS, MAX_MANIFEST, OCI_MANIFEST, Blob, Received, described
from gridapps.oci.wire_types import typed

MAX_ENTRIES = 64
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
_ATTESTATION = "attestation-manifest"  # the one reference type
_PLATFORM = ("os", "architecture", "variant", "os.version", "os.features", "features")


class Platform(Enum):
    """What an entry says about where it runs."""

    OURS = auto()  # linux/amd64, also as v1
    VARIANT = auto()  # linux/amd64 for newer processors
    OTHER = auto()
    UNSAID = auto()


@dataclass(frozen=True)
class IndexEntry:
    """An entry of an index."""

    blob: Blob  # the manifest or index that it names
    platform: Platform
    attested: str = ""  # the digest of an image of the index, if this is an attestation of it

    @property
    def nested(self) -> bool:
        """Whether it names a further index."""
        return self.blob.media_type in INDEXES


@dataclass(frozen=True)
class ImageIndex:
    """A well-formed index."""

    entries: Sequence[IndexEntry]

    @property
    def children(self) -> Sequence[Blob]:
        """The manifests and indexes that it names, each once."""
        return list({entry.blob.digest: entry.blob for entry in self.entries}.values())

    @property
    def named(self) -> Sequence[str]:
        """The digests of everything that it names."""
        return [child.digest for child in self.children]


def parse_index(received: Received) -> ImageIndex:
    """Parse and check an index, without what it names. Raises Invalid."""
    document = received.opened(limit=MAX_MANIFEST)
    if document.get("subject") is not None:
        raise Invalid("An image must not have a subject. Attachments are pushed by their digest.")
    if document.get("layers") is not None or document.get("config") is not None:
        raise Invalid("The index is also a manifest; it must be one of the two.")
    children = document.documents("manifests")
    if not children:
        raise Invalid("The index has no entries.")
    require_few(len(children))
    entries = [_entry(child, f"Entry {number} of the index") for number, child in enumerate(children, 1)]
    _require_consistent(entries)
    typed(document, wire_types.ManifestOrIndex)
    return ImageIndex(entries)


def digests_in(content: bytes) -> set[str]:
    """The digests anywhere in an index that may be malformed."""
    try:
        return stored_manifests.digests_in(read_document(content, what="The index").plain())
    except Invalid:
        return set()


def require_few(count: int) -> None:
    """Raise Invalid if an index, with the indexes in it, has too many entries."""
    if count > MAX_ENTRIES:
        raise Invalid(f"The index has {count} entries; at most {MAX_ENTRIES} are allowed.")


def _require_consistent(entries: Sequence[IndexEntry]) -> None:
    """Raise Invalid if a digest is used for two things, or an attestation is of nothing in the index."""
    seen: dict[str, IndexEntry] = {}
    for entry in entries:
        other = seen.setdefault(entry.blob.digest, entry)
        if other.blob != entry.blob or bool(other.attested) != bool(entry.attested):
            raise Invalid(f"The index names {entry.blob.digest} twice, and differently.")
    images = {entry.blob.digest for entry in entries if not entry.attested}
    for entry in entries:
        if entry.attested and entry.attested not in images:
            raise Invalid(
                f"The attestation {entry.blob.digest} refers to {entry.attested}, which is no image of the "
                "index: push the whole index."
            )


def _entry(child: Document, what: str) -> IndexEntry:
    blob = described(child, what)
    if blob.media_type not in MANIFESTS + INDEXES:
        raise Invalid(
            f"{what} is of type {blob.media_type!r}; only images, attestations and indexes can be in it."
        )
    annotations = child.document("annotations").knowing((REFERENCE_TYPE, REFERENCE_DIGEST))
    kind = annotations.get(REFERENCE_TYPE)
    if kind is None:
        return IndexEntry(blob, _platform(child.document("platform"), what))
    if kind != _ATTESTATION:
        raise Invalid(
            f"{what} has the annotation {REFERENCE_TYPE} {str(kind)[:50]!r}; only {_ATTESTATION} is known."
        )
    return _attestation(child, blob, annotations.get(REFERENCE_DIGEST), what)


def _attestation(child: Document, blob: Blob, attested: object, what: str) -> IndexEntry:
    if blob.media_type != OCI_MANIFEST:
        raise Invalid(f"{what} is an attestation of type {blob.media_type!r}, not {OCI_MANIFEST}.")
    if not isinstance(attested, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", attested):
        raise Invalid(f"{what} is an attestation whose annotation {REFERENCE_DIGEST} is no sha256 digest.")
    platform = child.document("platform").knowing(_PLATFORM)
    if [platform.get(name) for name in ("os", "architecture")] != ["unknown", "unknown"]:
        raise Invalid(
            f"{what} is an attestation; its platform has to be unknown/unknown, so that nothing runs it."
        )
    return IndexEntry(blob, Platform.OTHER, attested)


def _platform(platform: Document, what: str) -> Platform:
    """Where the entry runs. Raises Invalid for names that engines normalize."""
    platform = platform.knowing(_PLATFORM)
    if all(platform.get(name) in (None, "", []) for name in _PLATFORM):
        return Platform.UNSAID
    system, architecture, variant = (platform.get(name) for name in ("os", "architecture", "variant"))
    plain = all(
        isinstance(name, str) and re.fullmatch(r"[a-z0-9]{1,32}", name) for name in (system, architecture)
    )
    if not plain or architecture in ("x8664", "i386", "aarch64", "armhf", "armel") or system == "macos":
        raise Invalid(
            f"{what} has to name its platform as Go spells it, such as linux and amd64, or none at all."
        )
    if (system, architecture) != ("linux", "amd64"):
        return Platform.OTHER
    return Platform.OURS if variant in (None, "", "v1") else Platform.VARIANT
