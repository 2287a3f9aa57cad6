"""A registry's storage as the directory that it is: what lies there, and taking things away beside its
process.

A repository holds links, files that name a blob, and uploads under way; blobs lie beside all repositories.
The process remembers nothing of them, so what is gone here is gone there. What relies on something that lies
here already touches it first, and what was touched is not taken: docs/decisions/0075-housekeeping.md says why
that is enough. Source: the path layout of CNCF Distribution 2.8 and its driver for file systems.
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

STORAGE = {Registry.DEVELOPER: "registry", Registry.TRUSTED: "trusted"}  # below the data directory
NOTE = Path("run/uploads")  # below the data directory: see `note_opened`
_STALE = 10.0  # seconds
_LAYOUT = Path("docker/registry/v2")
_HEX = re.compile(r"[0-9a-f]{64}")
_digest = "sha256:{}".format
# Whether a directory is still wanted: the place that it has, or had, and where it is now.
Wanted = Callable[[Path, Path], bool]


@dataclass(frozen=True)
class Upload:
    """One that is under way, or was given up."""

    path: Path
    size: int  # bytes that have arrived
    promised: int  # bytes that it may have when the request that is under way has ended
    touched: float  # seconds since the epoch: when anything of it was written last


class Disk:
    """The storage of one registry."""

    def __init__(self, root: Path) -> None:
        self.top = root / _LAYOUT
        self._removed = root / "removed"
        self._sizes: dict[str, int] = {}  # a blob is its digest: its size never changes

    def repositories(self) -> list[str]:
        """Their names, those of Apps: the trusted registry's lie one level deeper."""
        return sorted(name for name, _ in _directories(self.top / "repositories"))

    def repository(self, name: str) -> "Files":
        """What lies in one repository, or would."""
        return Files(self.top / "repositories" / name)

    def blobs(self) -> Iterator[str]:
        """The digests of all blobs, manifests among them."""
        for _, place in _directories(self.top / "blobs" / "sha256"):
            for name, _ in _directories(place):
                if _HEX.fullmatch(name):
                    yield _digest(name)

    def blob(self, digest: str) -> Path:
        """The directory of a blob or manifest, whose content is the file `data`."""
        value = digest.removeprefix("sha256:")
        return self.top / "blobs" / "sha256" / value[:2] / value

    def size(self, digest: str) -> int:
        """Bytes of a blob; 0 for one that is not there."""
        return self.sizes({digest.removeprefix("sha256:")})

    def sizes(self, names: Set[str]) -> int:
        """Bytes of blobs by their names, which are digests without what says of which kind they are."""
        known = self._sizes
        for name in names - known.keys():
            if size := size_of(self.blob(name) / "data"):  # else perhaps the next time
                known[name] = size
        return sum(map(known.get, names, repeat(0)))

    def total(self) -> int:
        """Bytes of all blobs."""
        return sum(self.size(digest) for digest in self.blobs())

    def touch(self, name: str, *digests: str) -> None:
        """Note that somebody relies on these blobs and manifests of a repository. Absent ones are absent."""
        files = self.repository(name)
        for digest in digests:
            for path in (files.layer(digest) / "link", files.revision(digest) / "link"):
                _renew(path)
            _renew(self.blob(digest) / "data")

    def touch_upload(self, name: str, key: str) -> None:
        """Note that an upload of a repository goes on."""
        _renew(self.repository(name).upload(key) / "startedat")

    def take(self, path: Path, *, wanted: Wanted) -> bool:
        """Remove a directory, unless it is wanted after all; whether it is gone.

        It is moved aside before the question is asked for good: from then on nobody can come to rely on it. A
        process that is killed in between leaves it to `settle`.
        """
        self._removed.mkdir(exist_ok=True)
        aside = self._removed / str(path.relative_to(self.top)).replace("/", ",")
        try:
            path.rename(aside)
        except FileNotFoundError:  # somebody else was faster
            return True
        return self._settle(aside, wanted)

    def settle(self, *, wanted: Wanted) -> None:
        """Decide on what a killed process has moved aside."""
        for _, aside in _directories(self._removed):
            self._settle(aside, wanted)

    def _settle(self, aside: Path, wanted: Wanted) -> bool:
        place = self.top / aside.name.replace(",", "/")
        # Without a file it was decided on, and half removed.
        if any(_files(aside)) and wanted(place, aside):
            try:
                aside.rename(place)
            except OSError:  # something new lies in its place by now, and that is as good
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

    def layers(self) -> set[str]:
        """Digests of the blobs that are linked."""
        return {_digest(name) for name, _ in _directories(self._layers) if _HEX.fullmatch(name)}

    def revisions(self) -> set[str]:
        """Digests of the manifests that are linked."""
        return {_digest(name) for name, _ in _directories(self._revisions) if _HEX.fullmatch(name)}

    def tags(self) -> dict[str, str]:
        """The digest that each tag names; empty for one that is half written."""
        found = {}
        for name, path in _directories(self._tags):
            try:
                found[name] = (path / "current" / "link").read_text()
            except FileNotFoundError:
                found[name] = ""
        return found

    def history(self, tag: str) -> Iterator[Path]:
        """The directories that say what the tag has named, the present one's among them."""
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
        """The names of blobs and manifests that are linked: digests without what says of which kind they are.

        As quick as it can be told, because it is asked at each request of a push.
        """
        return {*_names(self._layers), *_names(self._revisions)}

    def count_tags(self) -> int:
        """How many tags there are."""
        return len(_names(self._tags))


def developers() -> Disk:
    """The developer registry's storage."""
    return _disk(settings.DATA / STORAGE[Registry.DEVELOPER])


def trusted() -> Disk:
    """The trusted registry's storage. Nothing is ever taken from it."""
    return _disk(settings.DATA / STORAGE[Registry.TRUSTED])


def size_of(path: Path) -> int:
    """Bytes of a file; 0 for one that is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def touched(path: Path) -> float:
    """When a file of the directory was written or touched last, or the directory was made.

    Seconds since the epoch. Raises FileNotFoundError.
    """
    times = [entry.stat(follow_symlinks=False).st_mtime for entry in _files(path)]
    return max(times, default=path.stat().st_mtime)


def being_written(uploads: Iterable[Upload]) -> set[Path]:
    """The directories of those uploads whose file some process has open: a request of theirs goes on."""
    wanted = {os.path.realpath(upload.path / "data"): upload.path for upload in uploads}
    return {wanted[path] for path in (_noted() or _opened("[0-9]*") if wanted else ()) if path in wanted}


def note_opened(process: int, note: Path, *, group: int) -> None:
    """Note which files of uploads a process has open, for accounts that may not look into it.

    The supervisor does so again and again, for the developer registry.
    """
    paths = sorted(path for path in _opened(str(process)) if "/_uploads/" in path)
    content = os.fsencode("\n".join(["", *paths]))
    if not note.exists() or note.read_bytes() != content:
        new = note.with_suffix(".new")
        new.write_bytes(content)
        shutil.chown(new, group=group)
        new.chmod(0o640)
        new.replace(note)
    os.utime(note)


def _noted() -> set[str]:
    """What was noted just now; empty when nobody does."""
    try:
        note = settings.DATA / NOTE
        return (
            set(os.fsdecode(note.read_bytes()).split("\n"))
            if note.stat().st_mtime > time.time() - _STALE
            else set()
        )
    except FileNotFoundError:
        return set()


def _opened(processes: str) -> Iterator[str]:
    """The files that processes have open."""
    for link in Path("/proc").glob(f"{processes}/fd/*"):
        with contextlib.suppress(OSError):  # it was closed meanwhile, or is not ours to look into
            yield os.readlink(link)  # noqa: PTH115 - a string is all that is needed


_disks: dict[Path, Disk] = {}


def _disk(root: Path) -> Disk:
    return _disks.setdefault(root, Disk(root))


def _directories(place: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each directory in a place. Links are followed to the place, and not in it."""
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
