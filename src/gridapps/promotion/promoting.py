"""Promotion copies a shared release, byte for byte, from the developer registry into the trusted registry.

Everything is verified by digest. Content whose digest or size differs from what was judged at the push is not
stored, and the share fails. Existing blobs are skipped, so an interrupted copy resumes, and copying is
idempotent. Attachments are copied too, and then the operator's scanner decides.
docs/decisions/0070-promotion.md and 0074-supply-chain.md have the reasons.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from gridapps.audit import record
from gridapps.moves import move
from gridapps.oci.documents import Invalid
from gridapps.oci.signatures import UnusableKeys
from gridapps.pki.tokens import Registry
from gridapps.promotion import contents, layouts, scanning
from gridapps.promotion.contents import ReleaseContents, Spoiled
from gridapps.promotion.scanning import ScanResult
from gridapps.pushes import references
from gridapps.pushes.disk import STORAGE
from gridapps.pushes.registry_client import NotInRegistry, Rejected, Repository, Unavailable
from gridapps.registry import kept_attachments
from gridapps.registry.models import Share
from gridapps.registry.states import SHARE_MOVES
from gridapps.storage import free_disk
from gridapps.storage.free_disk import DiskNearlyFull

NOTED_EVERY = 0.5  # seconds between two updates of the progress
log = logging.getLogger(__name__)


class _Over(Exception):
    """The share is no longer being copied: an administrator revoked it."""


def promote(share: Share, *, stopping: Callable[[], bool] = lambda: False) -> bool:
    """Copy the release of a share and have it scanned. Returns whether the share is active now.

    The share fails if the release is altered or incomplete, lacks a required signature, or is refused by the
    scanner. It stays in the state `copying` if `stopping` returns true or Unavailable is raised. Calling this
    again resumes the copy.
    """
    try:
        with (
            references.repository_of(share.app, Registry.DEVELOPER) as source,
            references.repository_of(share.app, Registry.TRUSTED) as target,
        ):
            release = contents.contents_of_release(source, share.release)
            everything = contents.copy_of(release)
            kept = contents.add_attachments(everything, source, share)
            if missing := kept_attachments.unsigned(kept):
                fail(share, missing)
                return False
            _require_free_disk(share)
            _Copy(share, source, target).all_of(everything)
            verdict = _scan(share, release, target, stopping)
    except (_Over, scanning.GivenUp):
        return False
    except Spoiled as error:
        fail(share, str(error))
        return False
    except UnusableKeys as error:
        fail(share, f"The instance's signature keys cannot be used: {error}")
        return False
    except (NotInRegistry, Invalid, Rejected) as error:
        text = str(error) or "A part of the release is gone."
        fail(share, f"The developer registry does not have the release as it was pushed: {text}")
        return False
    return _end(share, kept, verdict)


def _require_free_disk(share: Share) -> None:
    """Raise Unavailable unless the copy leaves as much disk free as the instance needs."""
    trusted = Path(settings.DATA) / STORAGE[Registry.TRUSTED]
    try:
        free_disk.require(trusted, floor=settings.GRIDAPPS.min_free_disk, more=share.release.size)
    except DiskNearlyFull as error:
        raise Unavailable(str(error)) from None


def _scan(
    share: Share, release: ReleaseContents, target: Repository, stopping: Callable[[], bool]
) -> ScanResult | None:
    """The scanner's verdict on the copy; None if the operator has no scanner."""
    if not settings.GRIDAPPS.scanner:
        return None
    if not _copying(share).update(reason="The scanner examines the release."):
        raise _Over
    data = Path(settings.DATA)
    try:
        with scanning.scan_directory(data, f"share-{share.pk}", size=release.size) as directory:
            layouts.write_layout(directory / scanning.LAYOUT, release, target, top=share.release.digest)
            return scanning.scan(data, directory, wanted=lambda: not stopping() and _copying(share).exists())
    except OSError as error:
        return ScanResult("", f"The image could not be laid out for the scanner: {error}.")


def _end(share: Share, kept: list[dict[str, Any]], verdict: ScanResult | None) -> bool:
    """Make the share active, or failed if the scanner refused it. Returns whether it is active."""
    if verdict is None:
        return _activate(share, attachments=kept)
    said = {"scanned_at": timezone.now(), "scan": verdict.output}
    with transaction.atomic():
        record.share_scanned(share=share, passed=not verdict.fault)
        if verdict.fault:
            fail(share, verdict.fault, **said)
            return False
        return _activate(share, attachments=kept, **said)


class _Copy:
    """One run of copying a share's release."""

    def __init__(self, share: Share, source: Repository, target: Repository) -> None:
        self._share = share
        self._source = source
        self._target = target
        self._copied = 0
        self._noted = 0.0

    def all_of(self, contents: ReleaseContents) -> None:
        """Copy blobs, then manifests: a registry refuses a manifest that names missing content."""
        self._note(size=contents.size)
        for digest, size in contents.blobs.items():
            if self._has(digest, size):
                self._add(size)
            else:
                self._blob(digest, size)
        for digest, (content, media_type) in contents.manifests.items():
            # Under a tag: garbage collection may remove untagged manifests, such as an index's children.
            tag = f"kept-{digest.replace(':', '-')}"
            stored = self._target.put_manifest(tag, content, media_type=media_type)
            if stored != digest:
                raise Spoiled(f"The trusted registry stored the manifest {digest} as {stored or 'nothing'}.")
            self._add(len(content))
        for tag, digest in contents.tags.items():
            # Clients look for attachments here. Another share of the release may move this tag.
            content, media_type = contents.manifests[digest]
            self._target.put_manifest(tag, content, media_type=media_type)
        self._note()

    def _has(self, digest: str, size: int) -> bool:
        try:
            return self._target.blob_size(digest) == size
        except NotInRegistry:
            return False

    def _blob(self, digest: str, size: int) -> None:
        try:
            with self._source.reading(digest) as chunks:
                self._target.put_blob(digest, self._checked(chunks, digest, size), size=size)
        except NotInRegistry:
            raise Spoiled(f"The developer registry no longer has the blob {digest}.") from None

    def _checked(self, chunks: Iterator[bytes], digest: str, size: int) -> Iterator[bytes]:
        """The same bytes. The last chunk is yielded only after the digest of all has been verified."""
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
            raise Spoiled(
                f"The blob {digest} in the developer registry differs from the one that was pushed."
            )
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


def _activate(share: Share, **more: Any) -> bool:
    """Make the share active, unless it was revoked meanwhile."""
    with transaction.atomic():
        done = move(
            Share.objects.filter(pk=share.pk), Share.State.ACTIVE, SHARE_MOVES,
            activated_at=timezone.now(), copied=F("size"), reason="", **more,
        )  # fmt: skip
        if done:
            record.share_activated(share=share)
    log.info("share %s of %s: %s", share.pk, share.release, "active" if done else "revoked meanwhile")
    return bool(done)


def note_waiting(share: Share, reason: str) -> None:
    """Record what the copy waits for."""
    _copying(share).update(reason=f"Waiting: {reason}")


def fail(share: Share, reason: str, **more: Any) -> None:
    """Make the share fail, unless it has ended already."""
    log.warning("share %s of %s failed: %s", share.pk, share.release, reason)
    with transaction.atomic():
        this = Share.objects.filter(pk=share.pk)
        if move(this, Share.State.FAILED, SHARE_MOVES, ended_at=timezone.now(), reason=reason, **more):
            record.share_failed(share=share, reason=reason)


def _copying(share: Share) -> QuerySet[Share]:
    return Share.objects.filter(pk=share.pk, state=Share.State.COPYING)
