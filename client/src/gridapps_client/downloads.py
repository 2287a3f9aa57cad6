"""Download outputs: resumed after a broken connection, verified, and written atomically.

An output is verified by its SHA-256, and a zip by the checksums of its files. Apps choose the paths, so these
are untrusted: nothing is written outside the requested directory, and no symbolic link is followed.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from gridapps_client.disk import reading, writing
from gridapps_client.errors import BadAnswer, GridAppsError, Unreachable
from gridapps_client.models import Output
from gridapps_client.transport import Transport

_TRIES = 5
_BLOCK = 1024**2
Progressed = Callable[[int], None]


def nothing(count: int) -> None:
    """The default of `progressed`."""


def select(outputs: Iterable[Output], wanted: Iterable[str]) -> list[Output]:
    """The outputs that `wanted` names by path, directory or pattern such as `*.tif`; all if it is empty."""
    all_of_them, patterns = list(outputs), list(wanted)
    if not patterns:
        return all_of_them
    chosen: dict[str, Output] = {}
    for pattern in patterns:
        found = {each.path: each for each in all_of_them if _matches(each.path, pattern.rstrip("/"))}
        if not found:
            raise GridAppsError(
                f"No output matches {pattern!r}; see them with: gridapps outputs list RUN", code="not-found"
            )
        chosen |= found
    return list(chosen.values())


def output(
    transport: Transport,
    wanted: Output,
    *,
    url: Callable[[str], str],
    to: Path,
    overwrite: bool,
    progressed: Progressed,
) -> Path:
    """Download one output into the directory `to`; `url` of its path. See `Client.download`."""
    target = place(to, wanted.path)
    if _already_there(target, wanted, overwrite=overwrite):
        progressed(wanted.size)
        return target
    part = target.with_name(f".gridapps-{wanted.sha256[:32]}.part")
    with _written(part) as file:
        _fetch(transport, url(wanted.path), wanted, file, progressed)
    with writing(target):
        part.replace(target)
    return target


def archive(transport: Transport, url: str, *, target: Path, progressed: Progressed) -> Path:
    """Download a zip from `url` into the file `target`, which must not exist. See `Client.download_zip`."""
    if os.path.lexists(target):
        raise GridAppsError(
            f"{target} exists already; remove it or choose another directory with --to.", code="exists"
        )
    tag = _Tagged()
    for attempt in range(1, _TRIES + 1):
        try:
            part = _fetch_zip(transport, url, target, tag, progressed)
        except Unreachable:
            if attempt == _TRIES or not tag.value:
                tag.forget(target)
                raise
            continue
        break
    with reading(part):
        fault = _fault(part)
    if fault:
        with writing(part):
            part.unlink()
        raise BadAnswer(f"The zip is damaged ({fault}); try again.", code="corrupt")
    with writing(target):
        part.replace(target)
    return target


def place(to: Path, path: str) -> Path:
    """The file for the output `path` below `to`, whose directories are made. Raises BadAnswer for an unsafe
    path.
    """
    names = path.split("/")
    for name in names:
        if name in ("", ".", "..") or "\0" in name or (os.name == "nt" and _misleads_windows(name)):
            raise BadAnswer(
                f"The instance offers an output at the unsafe path {path!r}; it was not written.",
                code="unsafe-path",
            )
    directory = to
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    for name in names[:-1]:
        directory /= name
        with writing(directory):
            # Only an existing link can lead elsewhere, because this code makes none.
            if directory.is_symlink():
                raise BadAnswer(
                    f"{directory} is a symbolic link; outputs are not written through links.",
                    code="unsafe-path",
                )
            directory.mkdir(exist_ok=True)
    return directory / names[-1]


def _misleads_windows(name: str) -> bool:
    """Whether Windows would write to another file: it takes some characters as separators, and drops dots
    and spaces at the end."""
    return bool(set(name) & set('\\:<>|?*"')) or name.endswith((".", " "))


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or path.startswith(f"{pattern}/") or fnmatchcase(path, pattern)


def _already_there(target: Path, wanted: Output, *, overwrite: bool) -> bool:
    if not os.path.lexists(target):
        return False
    with reading(target):
        if target.is_symlink() or not target.is_file():
            raise GridAppsError(
                f"{target} exists and is not a regular file; choose another directory with --to.",
                code="exists",
            )
        if target.stat().st_size == wanted.size and _digest(target) == wanted.sha256:
            return True
    if overwrite:
        return False
    raise GridAppsError(
        f"{target} exists with other content; give --overwrite or another --to.", code="exists"
    )


def _fetch(transport: Transport, url: str, wanted: Output, file: BinaryIO, progressed: Progressed) -> None:
    done, digest = _resumed(file, wanted.size)
    progressed(done)
    for attempt in range(1, _TRIES + 1):
        try:
            for chunk in _rest(transport, url, done, wanted):
                done += len(chunk)
                if done > wanted.size:
                    raise _corrupt(file, wanted)
                file.write(chunk)
                digest.update(chunk)
                progressed(len(chunk))
        except Unreachable:
            if attempt == _TRIES:
                raise
            continue
        break
    if done != wanted.size or digest.hexdigest() != wanted.sha256:
        raise _corrupt(file, wanted)


def _rest(transport: Transport, url: str, done: int, wanted: Output) -> Iterator[bytes]:
    """The bytes from `done` on. The SHA-256 shows whether they belong together."""
    if done == wanted.size:
        return
    headers = {"Range": f"bytes={done}-"} if done else {}
    with transport.stream("GET", url, headers=headers) as answer:
        span = f"bytes {done}-{wanted.size - 1}/{wanted.size}"
        if done and (answer.status_code != 206 or answer.headers.get("Content-Range") != span):
            raise BadAnswer(
                f"The instance did not resume {wanted.path!r} at the requested byte.", code="bad-answer"
            )
        yield from transport.chunks(answer)


class _Tagged:
    """The entity tag of a zip, which names the file of its beginning, and the progress reported so far."""

    def __init__(self) -> None:
        self.value = ""
        self.reported = 0

    def part(self, target: Path) -> Path:
        """The file for the beginning of the zip with this tag."""
        name = hashlib.sha256(self.value.encode()).hexdigest()[:16] if self.value else "new"
        return target.with_name(f".{target.name[:200]}.{name}.part")

    def forget(self, target: Path) -> None:
        """Remove a beginning that nothing can be resumed with."""
        if not self.value:
            with suppress(OSError):
                self.part(target).unlink()

    def reached(self, done: int, progressed: Progressed) -> None:
        """Report bytes once, also when a download starts again."""
        if done > self.reported:
            progressed(done - self.reported)
            self.reported = done


def _fetch_zip(transport: Transport, url: str, target: Path, tag: _Tagged, progressed: Progressed) -> Path:
    """Download the zip, or the rest of one whose beginning is there, and return its file."""
    headers: dict[str, str] = {}
    done = _size(tag.part(target)) if tag.value else 0
    if done:
        headers = {"Range": f"bytes={done}-", "If-Range": tag.value}
    with transport.stream("GET", url, headers=headers, patience=60) as answer:
        tag.value = _strong(answer.headers.get("ETag", ""))
        part = tag.part(target)
        if answer.status_code != 206:
            done = 0
            here, whole = _size(part), int(answer.headers.get("Content-Length", "0"))
            if not headers and tag.value and 0 < here <= whole:
                # An earlier call has left this very zip, or its beginning.
                tag.reached(here, progressed)
                return part if here == whole else _fetch_zip(transport, url, target, tag, progressed)
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise BadAnswer("The instance did not resume the zip at the requested byte.", code="bad-answer")
        with _written(part) as file:
            file.seek(done)
            file.truncate()
            tag.reached(done, progressed)
            for chunk in transport.chunks(answer):
                file.write(chunk)
                done += len(chunk)
                tag.reached(done, progressed)
    return part


def _strong(tag: str) -> str:
    """The tag if it names the bytes; empty for a weak one, with which nothing may be resumed."""
    return "" if tag.startswith("W/") else tag


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _fault(path: Path) -> str:
    """What is wrong with a zip: its directory, or the checksum of a file in it."""
    try:
        with zipfile.ZipFile(path) as opened:
            bad = opened.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        return str(error) or "it ends too early"
    return f"the checksum of {bad!r} is wrong" if bad else ""


def _resumed(file: BinaryIO, size: int) -> tuple[int, hashlib._Hash]:
    """The size and digest of what an earlier attempt has written. The file is then at its end."""
    digest, done = hashlib.sha256(), 0
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
        done += len(block)
    if done > size:
        file.seek(0)
        file.truncate()
        return 0, hashlib.sha256()
    return done, digest


@contextmanager
def _written(part: Path) -> Iterator[BinaryIO]:
    """`part`, open for reading and writing."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with writing(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, flags, 0o666), "r+b") as file:
            yield file


def _corrupt(file: BinaryIO, wanted: Output) -> GridAppsError:
    # Discard the data, or resuming would fail again.
    file.truncate(0)
    return BadAnswer(
        f"{wanted.path!r} does not have the announced size or SHA-256; try again.",
        code="corrupt",
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
