"""Garbage collection of the developer registry, beside its process and beside pushes.

What a release needs stays, and what was touched within the grace: a push touches what it relies on
first. The rest goes: tags, manifests and links from the repositories, then blobs that no repository links. It
may be killed at any point, and done again. Nothing of the trusted registry is looked at.
docs/decisions/0075-housekeeping.md says why a push that is under way cannot be hurt.
"""

import logging
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gridapps.oci import stored_manifests
from gridapps.pushes import disk
from gridapps.pushes.disk import Disk, Files
from gridapps.registry.models import App, Layer, Release

GRACE = 24 * 3600.0  # seconds for which a push may rely on what it has touched
GIVEN_UP = 3600.0  # seconds; an idle, unopened upload counts as abandoned
# How cosign and the OCI referrers' fallback tag what belongs to a manifest: sha256-<hex>, sha256-<hex>.sig.
_ATTACHED = re.compile(r"sha256-([0-9a-f]{64})(\.[a-z]+)?")
log = logging.getLogger(__name__)


def sweep(*, dry_run: bool = False, without: Collection[Release] = ()) -> list[str]:
    """Remove what no release needs; a line for each. With `dry_run` only the lines, as if the releases of
    `without` were gone already. Raises OSError."""
    gone = {release.pk for release in without}
    return list(_Sweep(disk.developers(), dry_run=dry_run, without=gone).everything())


class _Unreadable(Exception):
    """A manifest that is kept cannot be read, so nobody knows what it needs."""


@dataclass(frozen=True)
class _Needed:
    """What some manifests need: manifests, themselves among them, and blobs."""

    manifests: set[str]
    blobs: set[str]


class _Manifests:
    """The manifests that lie in a repository, and what they name."""

    def __init__(self, there: Disk, files: Files) -> None:
        self.found = files.revisions()
        self._digests: dict[str, set[str]] = {}
        self._attached: dict[str, set[str]] = defaultdict(set)  # to which manifest: which ones
        for digest in self.found:
            self._read(there, digest)
        for tag, digest in files.tags().items():
            if match := _ATTACHED.fullmatch(tag):
                self._attached[f"sha256:{match[1]}"].add(digest)

    def needed(self, roots: Iterable[str]) -> _Needed:
        """What these need: children of indexes as well, and what is attached to any of it.

        Raises _Unreadable.
        """
        needed, todo = _Needed(set(), set()), list(roots)
        while todo:
            digest = todo.pop()
            if digest in needed.manifests:
                continue
            if digest not in self._digests:
                raise _Unreadable(f"The manifest {digest} is not there, or no JSON.")
            needed.manifests.add(digest)
            needed.blobs.update(self._digests[digest])
            todo += (self._digests[digest] | self._attached[digest]) & self.found
        return needed

    def _read(self, there: Disk, digest: str) -> None:
        try:
            document = stored_manifests.parsed((there.blob(digest) / "data").read_bytes())
        except FileNotFoundError:
            return
        if not isinstance(document, dict):
            return
        self._digests[digest] = stored_manifests.digests_in(document)
        subject = document.get("subject")
        for target in stored_manifests.digests_in(subject):
            self._attached[target].add(digest)


class _Sweep:
    """One pass over everything."""

    def __init__(self, there: Disk, *, dry_run: bool, without: Collection[int]) -> None:
        self._disk = there
        self._dry_run = dry_run
        self._without = without
        self._now = time.time()
        self._gone: dict[str, set[str]] = {}  # links, by repository: in a dry run they are still there

    def everything(self) -> Iterator[str]:
        """Line by line, as it is done."""
        if not self._dry_run:
            self._disk.settle(wanted=self._wanted)
        apps = {app.app_id: app for app in App.objects.all()}
        for name in self._disk.repositories():
            files = self._disk.repository(name)
            yield from self._uploads(name, files)
            if name not in apps:
                # Perhaps this is not the database that belongs to this directory.
                log.warning("The repository %s belongs to no App: it is left as it is.", name)
                continue
            try:
                yield from self._repository(name, files, apps[name])
            except _Unreadable as error:
                log.warning("The repository %s is left as it is. %s", name, error)
        yield from self._blobs()

    def _uploads(self, name: str, files: Files) -> Iterator[str]:
        idle = [each for each in files.uploads() if each.touched < self._now - GIVEN_UP]
        written = disk.being_written(idle)
        for upload in idle:
            if upload.path not in written and self._take(upload.path):
                yield f"upload {name}/{upload.path.name}: {upload.size} bytes"

    def _repository(self, name: str, files: Files, app: App) -> Iterator[str]:
        valid = app.releases.filter(state=Release.State.VALID).exclude(pk__in=self._without)
        releases = list(valid.values_list("digest", flat=True))  # first: what is pushed from now on is young
        there = _Manifests(self._disk, files)
        kept = there.needed(releases)
        for tag, digest in files.tags().items():
            if digest not in kept.manifests and self._is_old(files.tag(tag)) and self._take(files.tag(tag)):
                yield f"tag {name}:{tag}"
            else:
                self._forget_past(files, tag, digest)
        if any(each.touched > self._now - GIVEN_UP for each in files.uploads()):
            return  # a push is under way, and may have begun longer ago than the grace
        young = {digest for digest in there.found if not self._is_old(files.revision(digest))}
        needed = there.needed(kept.manifests | young)
        gone = self._gone[name] = set()
        for digest in sorted(there.found - needed.manifests):
            if not self._take(files.revision(digest)):
                return  # somebody relies on it since, and so on what it names
            gone.add(digest)
            yield f"manifest {name}@{digest}"
        for digest in sorted(files.layers() - needed.blobs):
            if self._is_old(files.layer(digest)) and self._take(files.layer(digest)):
                gone.add(digest)
                yield f"link {name}@{digest}"

    def _forget_past(self, files: Files, tag: str, digest: str) -> None:
        """What a tag has named once is written down by the registry, and read by nobody."""
        for path in files.history(tag):
            if path.name not in digest and self._is_old(path) and not self._dry_run:
                shutil.rmtree(path)

    def _blobs(self) -> Iterator[str]:
        linked: set[str] = set()
        for name in self._disk.repositories():
            files = self._disk.repository(name)
            linked |= (files.layers() | files.revisions()) - (
                self._gone.get(name, set()) if self._dry_run else set()
            )
        for digest in self._disk.blobs():
            path = self._disk.blob(digest)
            if digest not in linked and self._is_old(path):
                size = self._disk.size(digest)
                if self._take(path):
                    if not self._dry_run:  # what was read of it is read again when it comes again
                        Layer.objects.filter(digest=digest).delete()
                    yield f"blob {digest}: {size} bytes"

    def _take(self, path: Path) -> bool:
        return self._dry_run or self._disk.take(path, wanted=self._wanted)

    def _wanted(self, place: Path, now_at: Path) -> bool:
        """Whether somebody has come to rely on it, asked again where nobody can any more."""
        if place.parent.name == "_uploads":
            return disk.touched(now_at) > self._now - GIVEN_UP
        if place == self._disk.blob(place.name) and self._is_linked(place.name):
            return True
        return disk.touched(now_at) > self._now - GRACE

    def _is_linked(self, digest: str) -> bool:
        every = (self._disk.repository(name) for name in self._disk.repositories())
        return any(files.layer(digest).exists() or files.revision(digest).exists() for files in every)

    def _is_old(self, path: Path) -> bool:
        try:
            return disk.touched(path) < self._now - GRACE
        except FileNotFoundError:  # somebody else was faster
            return False
