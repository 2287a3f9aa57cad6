"""Download outputs: resumed after a broken connection, verified by SHA-256, and written atomically.

The paths are untrusted, because Apps choose them: nothing is written outside the requested directory, and no
symbolic link is followed.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from gridapps_client.client import Client
from gridapps_client.errors import BadAnswer, GridAppsError, Unreachable
from gridapps_client.models import Output

_TRIES = 5
_BLOCK = 1024**2
Progressed = Callable[[int], None]


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


def download(
    client: Client,
    run_id: str,
    output: Output,
    *,
    to: Path,
    overwrite: bool = False,
    progressed: Progressed = lambda count: None,  # noqa: ARG005 (names what it is called with)
) -> Path:
    """Download one output into the directory `to` and return its file. `progressed` is called with the bytes
    of each piece.

    A file with the right content is not downloaded again. One with other content raises a GridAppsError
    unless `overwrite`. An interrupted download is resumed.
    """
    target = place(to, output.path)
    if _already_there(target, output, overwrite=overwrite):
        progressed(output.size)
        return target
    part = target.with_name(f".gridapps-{output.sha256[:32]}.part")
    with _written(part, resume=True) as file:
        _fetch(client, client.output_url(run_id, output.path), output, file, progressed)
    part.replace(target)
    return target


def download_zip(
    client: Client,
    run_id: str,
    *,
    target: Path,
    progressed: Progressed = lambda count: None,  # noqa: ARG005 (names what it is called with)
) -> Path:
    """Download all outputs as one zip into the file `target`, which must not exist."""
    if os.path.lexists(target):
        raise GridAppsError(
            f"{target} exists already; remove it or choose another directory with --to.", code="exists"
        )
    part = target.with_name(f".{target.name}.part")
    with (
        _written(part, resume=False) as file,
        client.transport.stream("GET", client.zip_url(run_id), patience=60) as answer,
    ):
        for chunk in client.transport.chunks(answer):
            file.write(chunk)
            progressed(len(chunk))
    if not zipfile.is_zipfile(part):
        part.unlink()
        raise Unreachable("The zip is incomplete; try again.", code="broken")
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
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names[:-1]:
            directory /= name
            # Only an existing link can lead elsewhere, because this code makes none.
            if directory.is_symlink():
                raise BadAnswer(
                    f"{directory} is a symbolic link; outputs are not written through links.",
                    code="unsafe-path",
                )
            directory.mkdir(exist_ok=True)
    except (OSError, UnicodeEncodeError) as error:
        raise _unwritable(directory, error) from error
    return directory / names[-1]


def _misleads_windows(name: str) -> bool:
    """Whether Windows would write to another file: it takes some characters as separators, and drops dots
    and spaces at the end."""
    return bool(set(name) & set('\\:<>|?*"')) or name.endswith((".", " "))


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or path.startswith(f"{pattern}/") or fnmatchcase(path, pattern)


def _already_there(target: Path, output: Output, *, overwrite: bool) -> bool:
    if not os.path.lexists(target):
        return False
    if target.is_symlink() or not target.is_file():
        raise GridAppsError(
            f"{target} exists and is not a regular file; choose another directory with --to.", code="exists"
        )
    if target.stat().st_size == output.size and _digest(target) == output.sha256:
        return True
    if overwrite:
        return False
    raise GridAppsError(
        f"{target} exists with other content; give --overwrite or another --to.", code="exists"
    )


def _fetch(client: Client, url: str, output: Output, file: BinaryIO, progressed: Progressed) -> None:
    done, digest = _resumed(file, output.size)
    progressed(done)
    for attempt in range(1, _TRIES + 1):
        try:
            for chunk in _rest(client, url, done, output):
                done += len(chunk)
                if done > output.size:
                    raise _corrupt(file, output)
                file.write(chunk)
                digest.update(chunk)
                progressed(len(chunk))
        except Unreachable:
            if attempt == _TRIES:
                raise
            continue
        break
    if done != output.size or digest.hexdigest() != output.sha256:
        raise _corrupt(file, output)


def _rest(client: Client, url: str, done: int, output: Output) -> Iterator[bytes]:
    """The bytes from `done` on."""
    if done == output.size:
        return
    headers = {"Range": f"bytes={done}-"} if done else {}
    with client.transport.stream("GET", url, headers=headers) as answer:
        wanted = f"bytes {done}-{output.size - 1}/{output.size}"
        if done and (answer.status_code != 206 or answer.headers.get("Content-Range") != wanted):
            raise BadAnswer(
                f"The instance did not resume {output.path!r} at the requested byte.", code="bad-answer"
            )
        yield from client.transport.chunks(answer)


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
def _written(part: Path, *, resume: bool) -> Iterator[BinaryIO]:
    """`part`, open for reading and writing. Errors of the disk become sentences."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(part, flags if resume else flags | os.O_TRUNC, 0o666), "r+b") as file:
            yield file
    except OSError as error:
        raise _unwritable(part, error) from error


def _unwritable(path: Path, error: OSError | UnicodeEncodeError) -> GridAppsError:
    why = error.strerror if isinstance(error, OSError) else "this system cannot write such a name"
    return GridAppsError(f"{path} cannot be written: {why}.", code="disk")


def _corrupt(file: BinaryIO, output: Output) -> GridAppsError:
    # Discard the data, or resuming would fail again.
    file.truncate(0)
    return BadAnswer(
        f"{output.path!r} does not have the announced size or SHA-256; try again.",
        code="corrupt",
    )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
