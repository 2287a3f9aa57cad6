"""Names of export files. They appear in pages, logs and downloads."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridapps.access.names import is_line

MAX_FILE_NAME = 255
_ENDINGS = (".las", ".laz")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to import."""

    name: str  # as the user knows it
    path: Path
    number: int


def sources(files: Sequence[Path], *, follow: bool) -> tuple[list[Source], list[str]]:
    """The files with valid names, and a line `FILE: sentence` for each other one.

    `follow`: a symbolic link stands for the file that it points to.
    """
    seen: set[str] = set()
    found, bad = [], []
    for number, file in enumerate(files):
        if fault := _name_fault(file.name, seen):
            bad.append(f"{shown(file.name)}: {fault}")
        else:
            path = Path(os.path.realpath(file)) if follow and file.is_symlink() else file
            found.append(Source(name=file.name, path=path, number=number))
        seen.add(file.name)
    return found, bad


def name_faults(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each name that a file of an export cannot have, with a sentence that says why."""
    seen: set[str] = set()
    for name in names:
        if fault := _name_fault(name, seen):
            yield name, fault
        seen.add(name)


def _name_fault(name: str, seen: set[str]) -> str:
    """What is wrong with a file's name, or ""."""
    if not name.isprintable():  # neither are the surrogates of bytes that are not UTF-8
        return "The file's name has characters that cannot be shown. Rename it."
    if name and not is_line(name, longest=len(name)):
        return "The file's name shows nothing. Rename it."
    if name in {"", ".", ".."} or name.startswith((".", "-")) or set(name) & set("/\\"):
        return (
            "The file's name must not start with a dot or a dash, or contain a slash or backslash. Rename it."
        )
    if name in seen:
        return "Two files have this name; names must differ within an export."
    if not name.lower().endswith(_ENDINGS) and "." in name:
        ending = name.rpartition(".")[2]
        return f"The ending .{ending} is not supported; an export takes .las and .laz (also COPC)."
    return ""


def shown(name: str) -> str:
    """The name, with characters escaped that could control a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]
