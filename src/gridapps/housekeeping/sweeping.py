"""Garbage collection of the developer registry, while its process runs and pushes go on.

`plan` decides, and changes nothing; `execute` removes. What a release needs stays, and what was touched
within the grace period: a push touches what it relies on first. Everything else is removed: tags, manifests
and links from the repositories, then blobs that no repository links. Each removal is checked again when it is
done. The process may be killed at any point. The trusted registry is not touched.
docs/decisions/0075-housekeeping.md says why a push that is under way loses nothing.
"""

import logging
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from django.conf import settings

from gridapps.oci import stored_manifests
from gridapps.pushes import disk
from gridapps.pushes.disk import Disk, Files
from gridapps.registry.models import App, Layer, Release
from gridapps.storage import free_disk

GRACE = 24 * 3600.0  # seconds for which a push may rely on what it has touched
GIVEN_UP = 600.0  # seconds; an idle, unopened upload counts as abandoned
GIVEN_UP_WHEN_SHORT = 60.0  # seconds; the same while the disk is below its floor
# How cosign and the OCI referrers' fallback tag what belongs to a manifest: sha256-<hex>, sha256-<hex>.sig.
_ATTACHED = re.compile(r"sha256-([0-9a-f]{64})(\.[a-z]+)?")
log = logging.getLogger(__name__)


class Removable(Enum):
    UPLOAD = auto()
    TAG = auto()
    PAST = auto()  # what a tag named before: the registry writes it down, and nothing reads it
    MANIFEST = auto()
    LINK = auto()
    BLOB = auto()


@dataclass(frozen=True)
class Removal:
    """A directory to remove. `repository` is empty for a blob, `line` for what is not shown to operators."""

    kind: Removable
    path: Path
    repository: str = ""
    digest: str = ""
    line: str = ""


@dataclass(frozen=True)
class SweepPlan:
    """What to remove, in this order, judged at `made_at` (seconds since the epoch)."""

    made_at: float
    removals: list[Removal]

    def lines(self) -> list[str]:
        """A line for each thing."""
        return [removal.line for removal in self.removals if removal.line]


def sweep() -> list[str]:
    """Remove what no release needs; a line for each thing. Raises OSError."""
    there = disk.developers()
    # What a process that was killed has moved aside is decided on first.
    there.settle(wanted=_Wanted(there, time.time()))
    return list(execute(plan()))


def sweep_uploads() -> list[str]:
    """Remove abandoned uploads alone; a line for each. Raises OSError."""
    planner = _Planner(disk.developers(), without=())
    return list(execute(SweepPlan(planner.now, list(planner.uploads()))))


def plan(*, without: Collection[Release] = ()) -> SweepPlan:
    """What to remove, as if the releases of `without` had no image. Changes nothing. Raises OSError."""
    planner = _Planner(disk.developers(), without={release.pk for release in without})
    return SweepPlan(planner.now, list(planner.removals()))


def execute(plan: SweepPlan) -> Iterator[str]:
    """Remove what is planned, unless something relies on it by now; a line for each thing. Raises OSError."""
    there = disk.developers()
    wanted = _Wanted(there, plan.made_at)
    relied_on = set()  # repositories in which a manifest stays: so does what it names
    for removal in plan.removals:
        if removal.kind in {Removable.MANIFEST, Removable.LINK} and removal.repository in relied_on:
            continue
        if not there.take(removal.path, wanted=wanted):
            if removal.kind is Removable.MANIFEST:
                relied_on.add(removal.repository)
            continue
        if removal.kind is Removable.BLOB:
            Layer.objects.filter(digest=removal.digest).delete()  # it is read again when it is pushed again
        if removal.line:
            yield removal.line


class _Unreadable(Exception):
    """A manifest that is kept cannot be read, so it is not known what it needs."""


@dataclass(frozen=True)
class _Needed:
    """What some manifests need: manifests, including themselves, and blobs."""

    manifests: set[str]
    blobs: set[str]


class _Manifests:
    """The manifests in a repository, and what they name."""

    def __init__(self, there: Disk, files: Files) -> None:
        self.found = files.revisions()
        self._digests: dict[str, set[str]] = {}
        self._attached: dict[str, set[str]] = defaultdict(
            set
        )  # manifests by the one that they are attached to
        for digest in self.found:
            self._read(there, digest)
        for tag, digest in files.tags().items():
            if match := _ATTACHED.fullmatch(tag):
                self._attached[f"sha256:{match[1]}"].add(digest)

    def needed(self, roots: Iterable[str]) -> _Needed:
        """What these need, with the children of indexes and what is attached to any of them.

        Raises _Unreadable.
        """
        needed, todo = _Needed(set(), set()), list(roots)
        while todo:
            digest = todo.pop()
            if digest in needed.manifests:
                continue
            if digest not in self._digests:
                raise _Unreadable(f"The manifest {digest} is missing, or is not JSON.")
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


class _Planner:
    """Looks at every repository, and then at the blobs."""

    def __init__(self, there: Disk, *, without: Collection[int]) -> None:
        self.now = time.time()
        self._disk = there
        self._without = without
        self._unlinked: dict[str, set[str]] = defaultdict(set)  # by repository: the links to be removed

    def removals(self) -> Iterator[Removal]:
        """In the order in which they can be done."""
        yield from self.uploads()
        apps = {app.app_id: app for app in App.objects.all()}
        for name in self._disk.repositories():
            files = self._disk.repository(name)
            if name not in apps:
                # Perhaps this is not the database that belongs to this directory.
                log.warning("The repository %s belongs to no App: it is left as it is.", name)
                continue
            try:
                yield from self._repository(name, files, apps[name])
            except _Unreadable as error:
                log.warning("The repository %s is left as it is. %s", name, error)
        yield from self._blobs()

    def uploads(self) -> Iterator[Removal]:
        """The abandoned uploads of all repositories."""
        for name in self._disk.repositories():
            files = self._disk.repository(name)
            idle = [each for each in files.uploads() if each.touched < self.now - _given_up()]
            written = disk.being_written(idle)
            for upload in idle:
                if upload.path not in written:
                    line = f"upload {name}/{upload.path.name}: {upload.size} bytes"
                    yield Removal(Removable.UPLOAD, upload.path, name, line=line)

    def _repository(self, name: str, files: Files, app: App) -> Iterator[Removal]:
        valid = app.releases.filter(state=Release.State.VALID).exclude(pk__in=self._without)
        releases = list(valid.values_list("digest", flat=True))  # first: what is pushed from now on is young
        there = _Manifests(self._disk, files)
        kept = there.needed(releases)
        yield from self._tags(name, files, kept)
        if any(each.touched > self.now - GIVEN_UP for each in files.uploads()):
            return  # a push is under way, and may have begun longer ago than the grace period
        young = {digest for digest in there.found if not self._is_old(files.revision(digest))}
        needed = there.needed(kept.manifests | young)
        for digest in sorted(there.found - needed.manifests):
            self._unlinked[name].add(digest)
            yield Removal(
                Removable.MANIFEST, files.revision(digest), name, digest, f"manifest {name}@{digest}"
            )
        for digest in sorted(files.layers() - needed.blobs):
            if self._is_old(files.layer(digest)):
                self._unlinked[name].add(digest)
                yield Removal(Removable.LINK, files.layer(digest), name, digest, f"link {name}@{digest}")

    def _tags(self, name: str, files: Files, kept: _Needed) -> Iterator[Removal]:
        """The tags of manifests that are not kept, and what the other tags named before."""
        for tag, digest in files.tags().items():
            if digest not in kept.manifests and self._is_old(files.tag(tag)):
                yield Removal(Removable.TAG, files.tag(tag), name, line=f"tag {name}:{tag}")
                continue
            for path in files.history(tag):
                if path.name not in digest and self._is_old(path):
                    yield Removal(Removable.PAST, path, name)

    def _blobs(self) -> Iterator[Removal]:
        linked: set[str] = set()
        for name in self._disk.repositories():
            files = self._disk.repository(name)
            linked |= (files.layers() | files.revisions()) - self._unlinked[name]
        for digest in self._disk.blobs():
            path = self._disk.blob(digest)
            if digest not in linked and self._is_old(path):
                line = f"blob {digest}: {self._disk.size(digest)} bytes"
                yield Removal(Removable.BLOB, path, digest=digest, line=line)

    def _is_old(self, path: Path) -> bool:
        try:
            return disk.touched(path) < self.now - GRACE
        except FileNotFoundError:  # another process has removed it
            return False


def _given_up() -> float:
    """Seconds after which an idle upload is removed."""
    found = free_disk.measure(disk.developers().top, floor=settings.GRIDAPPS.min_free_disk)
    return GIVEN_UP_WHEN_SHORT if found.is_short else GIVEN_UP


@dataclass(frozen=True)
class _Wanted:
    """Whether something relies on a directory by now. Asked when nothing can come to rely on it any more."""

    there: Disk
    since: float  # seconds since the epoch: the moment of the plan

    def __call__(self, place: Path, now_at: Path) -> bool:
        if place.parent.name == "_uploads":
            return disk.touched(now_at) > self.since - _given_up()
        if place == self.there.blob(place.name) and self._is_linked(place.name):
            return True
        return disk.touched(now_at) > self.since - GRACE

    def _is_linked(self, digest: str) -> bool:
        every = (self.there.repository(name) for name in self.there.repositories())
        return any(files.layer(digest).exists() or files.revision(digest).exists() for files in every)
