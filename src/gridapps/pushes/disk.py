"""The storage of a registry as a directory: what it contains, and removing parts while the registry runs.

A repository contains links (files that name a blob) and unfinished uploads. Blobs are stored once, for all
repositories. The registry's process caches none of this, so removing a file takes effect at once. A push
touches existing files before it relies on them, and the sweep does not remove what was touched;
docs/decisions/0075-housekeeping.md explains why this is safe. Source: the path layout of CNCF Distribution
2.8 and its driver for file systems.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from django.conf import settings

from gridapps.pki.tokens import Registry
from gridapps.processes.descriptors import open_files

STORAGE = {Registry.DEVELOPER: "registry", Registry.TRUSTED: "trusted"}  # below the data directory
NOTE = Path("run/uploads")  # below the data directory; see `note_opened`
_STALE = 10.0  # seconds
_LAYOUT = Path("docker/registry/v2")
_HEX = re.compile(r"[0-9a-f]{64}")
_digest = "sha256:{}".format
# Whether a directory is still needed. The arguments are its original path and its current one.
Wanted = Callable[[Path, Path], bool]


@dataclass(frozen=True)
class Upload:
    """An upload that is in progress or was abandoned."""

    path: Path
    size: int  # bytes that have arrived
    promised: int  # bytes that it may have when the current request ends
    touched: float  # seconds since the epoch: the last write


class Disk:
    """The storage of one registry."""

    def __init__(self, root: Path) -> None:
        self.top = root / _LAYOUT
        self._removed = root / "removed"
        self._sizes: dict[str, int] = {}  # by digest; the size of a blob never changes

    def repositories(self) -> list[str]:
        """The names of the developer registry's repositories, which are app-ids."""
        return sorted(name for name, _ in _directories(self.top / "repositories"))

    def repository(self, name: str) -> "Files":
        """One repository, which need not exist."""
        return Files(self.top / "repositories" / name)

    def blobs(self) -> Iterator[str]:
        """The digests of all blobs, manifests among them."""
        for _, place in _directories(self.top / "blobs" / "sha256"):
            for name, _ in _directories(place):
                if _HEX.fullmatch(name):
                    yield _digest(name)

    def blob(self, digest: str) -> Path:
        """The directory of a blob or manifest. The content is its file `data`."""
        value = digest.removeprefix("sha256:")
        return self.top / "blobs" / "sha256" / value[:2] / value

    def size(self, digest: str) -> int:
        """Bytes of a blob; 0 if it is missing."""
        return self.sizes({digest.removeprefix("sha256:")})

    def sizes(self, names: Set[str]) -> int:
        """Bytes of blobs. `names` are digests without their prefix."""
        known = self._sizes
        for name in names - known.keys():
            if size := size_of(self.blob(name) / "data"):  # a missing blob may arrive later
                known[name] = size
        return sum(map(known.get, names, repeat(0)))

    def total(self) -> int:
        """Bytes of all blobs."""
        return sum(self.size(digest) for digest in self.blobs())

    def touch(self, name: str, *digests: str) -> None:
        """Touch blobs and manifests of a repository that a push relies on. Missing ones are ignored."""
        files = self.repository(name)
        for digest in digests:
            for path in (files.layer(digest) / "link", files.revision(digest) / "link"):
                _renew(path)
            _renew(self.blob(digest) / "data")

    def touch_upload(self, name: str, key: str) -> None:
        """Touch an upload that continues."""
        _renew(self.repository(name).upload(key) / "startedat")

    def take(self, path: Path, *, wanted: Wanted) -> bool:
        """Remove a directory unless it is still needed. Returns whether it is gone.

        The directory is moved aside before `wanted` is called, so that no push can start to rely on it
        afterwards. If the process is killed in between, `settle` decides.
        """
        self._removed.mkdir(exist_ok=True)
        aside = self._removed / str(path.relative_to(self.top)).replace("/", ",")
        try:
            path.rename(aside)
        except FileNotFoundError:  # another process has removed it
            return True
        return self._settle(aside, wanted)

    def settle(self, *, wanted: Wanted) -> None:
        """Remove or restore what a killed process has moved aside."""
        for _, aside in _directories(self._removed):
            self._settle(aside, wanted)

    def _settle(self, aside: Path, wanted: Wanted) -> bool:
        place = self.top / aside.name.replace(",", "/")
        # A directory without files was partly removed already.
        if any(_files(aside)) and wanted(place, aside):
            try:
                aside.rename(place)
            except OSError:  # it was created anew meanwhile
                shutil.rmtree(aside)
            return False
        shutil.rmtree(aside)
        return True


class Files:
    """The directory of one repository."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._layers = path / "_layers" / "sha256"
        self._revisions = path / "_manifests" / "revisions" / "sha256"
        self._tags = path / "_manifests" / "tags"

    def layer(self, digest: str) -> Path:
        """The directory of the link to a blob."""
        return self._layers / digest.removeprefix("sha256:")

    def revision(self, digest: str) -> Path:
        """The directory of the link to a manifest."""
        return self._revisions / digest.removeprefix("sha256:")

    def tag(self, name: str) -> Path:
        """The directory of a tag."""
        return self._tags / name

    def unlink_layer(self, digest: str) -> None:
        """Make a blob unknown in this repository. The blob itself stays. Raises OSError."""
        (self.layer(digest) / "link").unlink(missing_ok=True)

    def remove_tag(self, name: str) -> None:
        """Make a tag unknown. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):  # it is gone already
            shutil.rmtree(self.tag(name))

    def layers(self) -> set[str]:
        """Digests of the linked blobs."""
        return {_digest(name) for name, _ in _directories(self._layers) if _HEX.fullmatch(name)}

    def revisions(self) -> set[str]:
        """Digests of the linked manifests."""
        return {_digest(name) for name, _ in _directories(self._revisions) if _HEX.fullmatch(name)}

    def tags(self) -> dict[str, str]:
        """The digest that each tag names; empty for a tag that is not completely written."""
        found = {}
        for name, path in _directories(self._tags):
            try:
                found[name] = (path / "current" / "link").read_text()
            except FileNotFoundError:
                found[name] = ""
        return found

    def history(self, tag: str) -> Iterator[Path]:
        """The directories of the digests that the tag names or has named."""
        return (path for _, path in _directories(self.tag(tag) / "index" / "sha256"))

    def upload(self, key: str) -> Path:
        """The directory of an upload."""
        return self._path / "_uploads" / key

    def uploads(self) -> Iterator[Upload]:
        """Every upload."""
        for _, path in _directories(self._path / "_uploads"):
            with contextlib.suppress(FileNotFoundError):  # it was finished meanwhile
                promise = path / "promised"
                promised = int(promise.read_text() or 0) if promise.exists() else 0
                yield Upload(path, size_of(path / "data"), promised, touched(path))

    def linked(self) -> set[str]:
        """Digests, without their prefix, of the linked blobs and manifests.

        Each request of a push calls this, so it only lists directories.
        """
        return {*_names(self._layers), *_names(self._revisions)}

    def count_tags(self) -> int:
        """The number of tags."""
        return len(_names(self._tags))


def developers() -> Disk:
    """The developer registry's storage."""
    return _disk(settings.DATA / STORAGE[Registry.DEVELOPER])


def trusted() -> Disk:
    """The trusted registry's storage. Nothing is ever removed from it."""
    return _disk(settings.DATA / STORAGE[Registry.TRUSTED])


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it is missing."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def touched(path: Path) -> float:
    """When a file in the directory was last written or touched, or when the directory was created.

    Seconds since the epoch. Raises FileNotFoundError.
    """
    times = [entry.stat(follow_symlinks=False).st_mtime for entry in _files(path)]
    return max(times, default=path.stat().st_mtime)


def being_written(uploads: Iterable[Upload]) -> set[Path]:
    """The directories of the uploads whose file a process has open, because a request still writes to it."""
    wanted = {os.path.realpath(upload.path / "data"): upload.path for upload in uploads}
    return {wanted[path] for path in (_noted() or _opened() if wanted else ()) if path in wanted}


def note_opened(process: int, note: Path, *, group: int) -> bool:
    """Record which files of uploads a process has open, for accounts that may not inspect the process.

    Returns whether there are any. The supervisor calls this periodically for the developer registry.
    """
    paths = sorted(path for path in _opened(process) if "/_uploads/" in path)
    content = os.fsencode("\n".join(["", *paths]))
    if not note.exists() or note.read_bytes() != content:
        new = note.with_suffix(".new")
        new.write_bytes(content)
        shutil.chown(new, group=group)
        new.chmod(0o640)
        new.replace(note)
    os.utime(note)
    return bool(paths)


def _noted() -> set[str]:
    """The paths that `note_opened` has written recently; empty if it does not run."""
    try:
        note = settings.DATA / NOTE
        return (
            set(os.fsdecode(note.read_bytes()).split("\n"))
            if note.stat().st_mtime > time.time() - _STALE
            else set()
        )
    except FileNotFoundError:
        return set()


def _opened(process: int | None = None) -> Iterator[str]:
    """The files that a process has open, or all processes that this account may inspect."""
    for link in open_files(process):
        with contextlib.suppress(OSError):  # it was closed meanwhile, or belongs to another account
            yield os.readlink(link)  # noqa: PTH115 - a string is all that is needed


_disks: dict[Path, Disk] = {}


def _disk(root: Path) -> Disk:
    return _disks.setdefault(root, Disk(root))


def _directories(place: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each subdirectory. Symbolic links in the directory are not followed."""
    try:
        with os.scandir(place) as found:
            names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in names:
        yield name, place / name


def _files(path: Path) -> Iterator["os.DirEntry[str]"]:
    """Every file below a directory."""
    with os.scandir(path) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry


def _renew(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)


def _names(place: Path) -> list[str]:
    try:
        return os.listdir(place)  # noqa: PTH208 - strings are all that is needed
    except FileNotFoundError:
        return []
