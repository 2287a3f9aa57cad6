"""Promotion: a shared release is copied, byte for byte, from the developer registry into the trusted one.

By digest from the top to the last blob: what arrives under another digest or size than was judged at the push
is never stored, and the share fails. Blobs that are there already are skipped, so a copy that was killed goes
on where it was, and copying twice is copying once. docs/decisions/0070-promotion.md says why it is done so.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from gridapps.audit import trail
from gridapps.audit.events import Event
from gridapps.registry import images, manifests, sharing
from gridapps.registry.distribution import Missing, Rejected, Repository
from gridapps.registry.manifests import Blob, Index, Invalid
from gridapps.registry.models import Share
from gridapps.registry.tokens import Service

NOTED_EVERY = 0.5  # seconds between two notes of how far a copy is
ANY = 2**62  # limits were judged at the push: what was taken then is copied now
log = logging.getLogger(__name__)


class Spoiled(Exception):
    """What lies in the developer registry is not what was pushed. The sentence says what differs."""


class _Over(Exception):
    """The share is not being copied any more: somebody revoked it."""


@dataclass
class _Contents:
    """What a release consists of: manifests, children before the index that names them, and blobs."""

    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)  # digest: content, media type
    blobs: dict[str, int] = field(default_factory=dict)  # digest: bytes

    @property
    def size(self) -> int:
        return sum(len(content) for content, _ in self.manifests.values()) + sum(self.blobs.values())


def promote(share: Share) -> bool:
    """Copy the release of a share that is being copied; whether the share is active now.

    A release that is spoiled or not whole makes it a failed one. Raises distribution.Unavailable: then it is
    still being copied, and doing it again goes on.
    """
    try:
        with (
            Repository(share.app.app_id) as source,
            Repository(images.trusted_repository(share.app), Service.TRUSTED) as target,
        ):
            contents = _contents(source, share.release.digest, share.release.media_type)
            _Copy(share, source, target).all_of(contents)
    except _Over:
        return False
    except Spoiled as error:
        fail(share, str(error))
        return False
    except (Missing, Invalid, Rejected) as error:
        text = str(error) or "A part of the release is gone."
        fail(share, f"The developer registry does not hold the release as it was pushed: {text}")
        return False
    return _activate(share)


def _contents(source: Repository, digest: str, media_type: str) -> _Contents:
    """Everything that the release names, each manifest checked against the digest it was asked for by."""
    found = _Contents()
    content = manifest(source, digest, media_type)
    parsed = _parsed(content, media_type)
    for child in parsed.children if isinstance(parsed, Index) else ():
        inner = manifest(source, child.digest, child.media_type, size=child.size)
        _add_blobs(found, _parsed(inner, child.media_type))
        found.manifests[child.digest] = (inner, child.media_type)
    _add_blobs(found, parsed)
    found.manifests[digest] = (content, media_type)
    return found


def manifest(source: Repository, digest: str, media_type: str, *, size: int | None = None) -> bytes:
    """A manifest that is what its digest says. Raises Spoiled, Unavailable."""
    try:
        content = source.manifest(digest, media_type=media_type, limit=manifests.MAX_MANIFEST + 1)
    except Missing:
        raise Spoiled(f"The developer registry has no manifest {digest} any more.") from None
    if manifests.digest_of(content) != digest or (size is not None and len(content) != size):
        raise Spoiled(f"The manifest {digest} in the developer registry is not the one that was pushed.")
    return content


def _parsed(content: bytes, media_type: str) -> manifests.Manifest | Index:
    return manifests.parse(content, media_type=media_type, max_image=ANY, max_layers=ANY)


def _add_blobs(found: _Contents, parsed: manifests.Manifest | Index) -> None:
    blobs: Iterable[Blob] = () if isinstance(parsed, Index) else (parsed.config, *parsed.layers)
    for blob in blobs:
        if found.blobs.setdefault(blob.digest, blob.size) != blob.size:
            raise Spoiled(f"The release names {blob.digest} with two sizes.")


class _Copy:
    """One copy of one share's release."""

    def __init__(self, share: Share, source: Repository, target: Repository) -> None:
        self._share = share
        self._source = source
        self._target = target
        self._copied = 0
        self._noted = 0.0

    def all_of(self, contents: _Contents) -> None:
        """Blobs first, then manifests: a registry takes nothing that names what is not there."""
        self._note(size=contents.size)
        for digest, size in contents.blobs.items():
            if self._has(digest, size):
                self._add(size)
            else:
                self._blob(digest, size)
        for digest, (content, media_type) in contents.manifests.items():
            # Under a tag, because a garbage collection may take what has none: the children of an index.
            stored = self._target.put_manifest(digest.replace(":", "-"), content, media_type=media_type)
            if stored != digest:
                raise Spoiled(f"The trusted registry stored the manifest {digest} as {stored or 'nothing'}.")
            self._add(len(content))
        self._note()

    def _has(self, digest: str, size: int) -> bool:
        try:
            return self._target.blob_size(digest) == size
        except Missing:
            return False

    def _blob(self, digest: str, size: int) -> None:
        try:
            with self._source.reading(digest) as chunks:
                self._target.put_blob(digest, self._checked(chunks, digest, size), size=size)
        except Missing:
            raise Spoiled(f"The developer registry has no blob {digest} any more.") from None

    def _checked(self, chunks: Iterator[bytes], digest: str, size: int) -> Iterator[bytes]:
        """The same bytes; the last of them only once all are known to be what the digest says."""
        hashed, length, held = hashlib.sha256(), 0, b""
        for chunk in chunks:
            hashed.update(chunk)
            length += len(chunk)
            if length > size:
                break
            if held:
                yield held
                self._add(len(held))
            held = chunk
        if length != size or f"sha256:{hashed.hexdigest()}" != digest:
            raise Spoiled(f"The blob {digest} in the developer registry is not the one that was pushed.")
        yield held
        self._add(len(held))

    def _add(self, count: int) -> None:
        self._copied += count
        if time.monotonic() > self._noted + NOTED_EVERY:
            self._note()

    def _note(self, **more: int) -> None:
        self._noted = time.monotonic()
        if not _copying(self._share).update(copied=self._copied, reason="", **more):
            raise _Over


def _activate(share: Share) -> bool:
    """Make it runnable, unless somebody revoked it meanwhile."""
    with transaction.atomic():
        done = _copying(share).update(
            state=Share.State.ACTIVE, activated_at=timezone.now(), copied=F("size"), reason=""
        )
        if done:
            trail.record(event=Event.SHARE_ACTIVATED, by=trail.INSTANCE, **sharing.named(share))
    log.info("share %s of %s: %s", share.pk, share.release, "active" if done else "revoked meanwhile")
    return bool(done)


def note_waiting(share: Share, reason: str) -> None:
    """Say what the copy waits for."""
    _copying(share).update(reason=f"Waiting: {reason}")


def fail(share: Share, reason: str) -> None:
    """End the share, unless it is over already."""
    log.warning("share %s of %s failed: %s", share.pk, share.release, reason)
    with transaction.atomic():
        if _copying(share).update(state=Share.State.FAILED, ended_at=timezone.now(), reason=reason):
            trail.record(event=Event.SHARE_FAILED, by=trail.INSTANCE, reason=reason, **sharing.named(share))


def _copying(share: Share) -> QuerySet[Share]:
    return Share.objects.filter(pk=share.pk, state=Share.State.COPYING)
