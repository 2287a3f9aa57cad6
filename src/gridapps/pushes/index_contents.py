"""What an index contains for linux/amd64: its image, and the attestations of that image.

The parts were pushed before the index and are read from the registry. Which image of an index runs is decided
here, once: nodes pull that image by its own digest and never choose from the index.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gridapps.oci import configurations, indexes, manifests, pushed
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.documents import Invalid
from gridapps.oci.indexes import ImageIndex, IndexEntry, Platform
from gridapps.oci.manifests import Blob, ImageManifest
from gridapps.oci.pushed import Part
from gridapps.pushes import pushed_blobs
from gridapps.pushes.registry_client import NotInRegistry, Repository

MAX_NESTED = 2  # levels of indexes
MAX_READ = 16 * 1024**2  # bytes of manifests and configurations that are read for one index


@dataclass(frozen=True)
class IndexContents:
    """The image of an index that runs here."""

    digest: str  # of the image's manifest
    manifest: ImageManifest
    attestations: Mapping[str, AttestationManifest]  # of this image, by digest
    inside: Collection[str] = ()  # the digests of everything in the index


def find(index: ImageIndex, repository: Repository, **limits: int) -> IndexContents:
    """What the index contains for linux/amd64. `limits` are those of `pushed.identify`.

    Raises Invalid, Unavailable.
    """
    reader = _Reader(repository, limits)
    entries = reader.flattened(index, levels=MAX_NESTED)
    attested: dict[str, dict[str, AttestationManifest]] = {}
    for entry in entries:
        if entry.attested:
            attested.setdefault(entry.attested, {})[entry.blob.digest] = reader.attestation(entry)
    blob = _only(reader.runnable(entries), entries)
    inside = {entry.blob.digest for entry in (*index.entries, *entries)}
    return IndexContents(blob.digest, reader.image(blob), attested.get(blob.digest, {}), inside)


def _only(images: Mapping[str, Blob], entries: Sequence[IndexEntry]) -> Blob:
    """The one image. Raises Invalid."""
    if not images and any(entry.platform is Platform.VARIANT for entry in entries):
        raise Invalid(
            "The index has an image for newer variants of linux/amd64 only; build it for plain amd64."
        )
    if len(images) != 1:
        raise Invalid(
            f"The index has {len(images)} images for linux/amd64; exactly one is needed. Build it with "
            "--platform linux/amd64."
        )
    return next(iter(images.values()))


class _Reader:
    """Reads the parts of an index, each once, and MAX_READ bytes of them together."""

    def __init__(self, repository: Repository, limits: Mapping[str, int]) -> None:
        self._repository = repository
        self._limits = limits
        self._parts: dict[Blob, Part] = {}
        self._left = MAX_READ

    def flattened(self, index: ImageIndex, *, levels: int) -> list[IndexEntry]:
        """The entries of an index and of the indexes in it that are no indexes themselves. Raises Invalid."""
        found: list[IndexEntry] = []
        for entry in index.entries:
            if entry.nested:
                inner = self._inner(entry.blob, levels=levels - 1)
                if entry.platform in (Platform.OTHER, Platform.VARIANT):
                    inner = [replace(each, platform=entry.platform) for each in inner]
                found += inner
            else:
                found.append(entry)
            indexes.require_few(len(found))
        return found

    def _inner(self, blob: Blob, *, levels: int) -> list[IndexEntry]:
        if not levels:
            raise Invalid(f"The index nests other indexes; at most {MAX_NESTED} levels are allowed.")
        inner = self._part(blob)
        assert isinstance(inner, ImageIndex), "it has the media type of one"
        return self.flattened(inner, levels=levels)

    def runnable(self, entries: Sequence[IndexEntry]) -> dict[str, Blob]:
        """The images for linux/amd64, by digest. If the index does not tell, the configuration does."""
        found = {}
        for entry in dict.fromkeys(entries):
            unsaid = entry.platform is Platform.UNSAID and not entry.attested
            if entry.platform is Platform.OURS or (unsaid and self._is_ours(entry.blob)):
                found[entry.blob.digest] = entry.blob
        return found

    def _is_ours(self, blob: Blob) -> bool:
        part = self._part(blob)
        if not isinstance(part, ImageManifest):
            return False
        limit = min(manifests.MAX_CONFIG, self._left) + 1
        content = self._counted(pushed_blobs.configuration_of(part, self._repository, limit=limit))
        return configurations.platform_of(content, manifest=part) == configurations.PLATFORM

    def image(self, blob: Blob) -> ImageManifest:
        """An image. Raises Invalid."""
        part = self._part(blob)
        if not isinstance(part, ImageManifest):
            raise Invalid(f"The index names {blob.digest} as an image, but it is an attestation.")
        return part

    def attestation(self, entry: IndexEntry) -> AttestationManifest:
        """An attestation of an image of the index. Raises Invalid."""
        part = self._part(entry.blob)
        if not isinstance(part, AttestationManifest):
            raise Invalid(f"The index names {entry.blob.digest} as an attestation, but it is an image.")
        if part.subject not in ("", entry.attested):
            raise Invalid(
                f"The attestation {entry.blob.digest} has the subject {part.subject}, but the index "
                f"refers it to {entry.attested}."
            )
        return part

    def _part(self, blob: Blob) -> Part:
        if blob not in self._parts:
            self._parts[blob] = self._read(blob)
        return self._parts[blob]

    def _read(self, blob: Blob) -> Part:
        limit = min(manifests.MAX_MANIFEST, self._left) + 1
        try:
            content = self._repository.manifest(blob.digest, media_type=blob.media_type, limit=limit)
        except NotInRegistry:
            raise Invalid(f"The index names {blob.digest}, which was not pushed.") from None
        self._counted(content)
        if manifests.digest_of(content) != blob.digest or len(content) != blob.size:
            raise Invalid(f"The index names {blob.digest} with a wrong size.")
        return pushed.decode_part(content, media_type=blob.media_type, **self._limits)

    def _counted(self, content: bytes) -> bytes:
        """The same bytes. Raises Invalid if more than MAX_READ were read."""
        self._left -= len(content)
        if self._left < 0:
            raise Invalid(
                f"The parts of the index have more than {MAX_READ} bytes together: the manifests in it, and "
                "the configurations of images without a platform. Push fewer platforms, or an index for each."
            )
        return content
