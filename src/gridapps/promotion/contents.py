"""The manifests and blobs of a release and its attachments, read from a registry and checked by digest."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gridapps.oci import attachments, manifests, pushed
from gridapps.oci.attachments import AttachmentManifest
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.indexes import ImageIndex
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST, Blob
from gridapps.pushes import attachment_rows
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry import kept_attachments
from gridapps.registry.models import Release, Share


class Spoiled(Exception):
    """The developer registry's content differs from what was pushed. The message says where."""


@dataclass
class ReleaseContents:
    """Manifests (children before the index that names them), blobs and tags."""

    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # digest: content, media type
    blobs: dict[str, int] = field(default_factory=dict)  # digest: bytes
    tags: dict[str, str] = field(default_factory=dict)  # tag: digest of a manifest

    @property
    def size(self) -> int:
        return sum(len(content) for content, _ in self.manifests.values()) + sum(self.blobs.values())

    def add_blobs(self, blobs: Iterable[Blob]) -> None:
        """Add blobs. Raises Spoiled if one is there with another size."""
        for blob in blobs:
            if self.blobs.setdefault(blob.digest, blob.size) != blob.size:
                raise Spoiled(f"The release names {blob.digest} with two sizes.")


def copy_of(other: ReleaseContents) -> ReleaseContents:
    """A copy to which more can be added."""
    return ReleaseContents(dict(other.manifests), dict(other.blobs), dict(other.tags))


def contents_of_release(source: Repository, release: Release) -> ReleaseContents:
    """Everything that the release names. Raises Spoiled, Invalid, Unavailable."""
    found = ReleaseContents()
    _add(found, source, release.digest, release.media_type)
    return found


def _add(
    found: ReleaseContents, source: Repository, digest: str, media_type: str, *, size: int | None = None
) -> None:
    """Add a manifest, after everything that it names. The limits were applied when it was pushed."""
    if digest in found.manifests:
        return
    content = manifest(source, digest, media_type, size=size)
    part = pushed.decode_part(content, media_type=media_type)
    if isinstance(part, ImageIndex):
        for child in part.children:
            _add(found, source, child.digest, child.media_type, size=child.size)
    else:
        found.add_blobs(part.blobs)
    found.manifests[digest] = (content, media_type)


def add_attachments(found: ReleaseContents, source: Repository, share: Share) -> list[dict[str, Any]]:
    """Add the attachments that the share keeps, judged again. Returns their entries for the share.

    Manifests with a subject are listed under the tag that clients look for, since the registry has no list.
    Signatures are verified with the keys that are known now. Raises Spoiled, NotInRegistry, Invalid,
    signatures.UnusableKeys, Unavailable.
    """
    entries: list[dict[str, Any]] = []
    listed: dict[str, list[tuple[AttachmentManifest, bytes]]] = {}
    keys = kept_attachments.known_keys()
    for digest, tag in dict.fromkeys((each["manifest"], each["tag"]) for each in share.attachments):
        content = manifest(source, digest, OCI_MANIFEST)
        document = pushed.identify(content, media_type=OCI_MANIFEST, reference=tag or digest)
        assert isinstance(document, AttachmentManifest | AttestationManifest), "it was one when it was pushed"
        signed = attachment_rows.contents_of(document, source)
        rows = attachment_rows.rows_of(document, manifest=digest, contents=signed, keys=keys)
        found.add_blobs(document.blobs)
        found.manifests[digest] = (content, OCI_MANIFEST)
        if tag:
            found.tags[tag] = digest
        elif isinstance(document, AttachmentManifest):
            listed.setdefault(document.target.subject, []).append((document, content))
        entries += map(kept_attachments.entry, attachment_rows.copies_for(rows, share.release))
    for subject, each in listed.items():
        content = attachments.list_of(each)
        found.tags[attachments.tag_of_list(subject)] = manifests.digest_of(content)
        found.manifests[manifests.digest_of(content)] = (content, OCI_INDEX)
    return entries


def manifest(source: Repository, digest: str, media_type: str, *, size: int | None = None) -> bytes:
    """A manifest whose digest was checked. Raises Spoiled, Unavailable."""
    try:
        content = source.manifest(digest, media_type=media_type, limit=manifests.MAX_MANIFEST + 1)
    except NotInRegistry:
        raise Spoiled(f"The developer registry no longer has the manifest {digest}.") from None
    if manifests.digest_of(content) != digest or (size is not None and len(content) != size):
        raise Spoiled(
            f"The manifest {digest} in the developer registry differs from the one that was pushed."
        )
    return content
