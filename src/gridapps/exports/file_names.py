"""Names of export files. They appear in pages, logs and downloads."""

from collections.abc import Iterable, Iterator

MAX_FILE_NAME = 255
_ENDINGS = (".las", ".laz")


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
