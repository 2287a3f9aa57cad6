"""Names of outputs: which are accepted, how rejected ones are shown, and their media types."""

import unicodedata
from mimetypes import MimeTypes

LONGEST_PATH = 1024  # characters, as in the database
_LONGEST_BYTES = 2048  # of a path in UTF-8; PostgreSQL indexes up to 2,700
_LONGEST_SHOWN = 300  # characters
# Windows opens the device whatever the ending and the directory.
_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"}) | {
    f"{kind}{number}" for kind in ("COM", "LPT") for number in "0123456789\u00b9\u00b2\u00b3"
}
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_TYPES = MimeTypes()
_OWN_TYPES = {
    ".copc.laz": "application/vnd.laszip+copc",
    ".laz": "application/vnd.laszip",
    ".las": "application/vnd.las",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
    ".parquet": "application/vnd.apache.parquet",
}


class BadName(ValueError):
    """The name is not accepted. The message says why, without a subject."""


def decode(name: bytes) -> str:
    """The name of a file or directory as text that every system and page can show. Raises BadName."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise BadName("has a name that is not UTF-8.") from None
    if any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text):
        raise BadName("has a control character in its name.")
    if _DIRECTION_MARKS & set(text):
        raise BadName("has a character in its name that changes the direction of text.")
    if text.partition(".")[0].rstrip(" ").upper() in _DEVICES:
        raise BadName("has the name of a Windows device.")
    return text


def path_of(parts: tuple[str, ...], name: bytes) -> str:
    """The path of a file in these directories. Raises BadName."""
    path = "/".join((*parts, decode(name)))
    if len(path) > LONGEST_PATH:
        raise BadName(f"has a path of more than {LONGEST_PATH} characters.")
    if len(path.encode()) > _LONGEST_BYTES:
        raise BadName(f"has a path of more than {_LONGEST_BYTES} bytes.")
    return path


def escape(path: bytes) -> str:
    """A path that may have any bytes, printable and at most 300 characters long."""
    text = path.decode("utf-8", errors="backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 3] + "..."


def media_type(path: str) -> str:
    """The media type by the ending: formats of point clouds and maps, then the registered ones."""
    name = path.lower()
    for ending, known in _OWN_TYPES.items():
        if name.endswith(ending):
            return known
    guessed, encoding = _TYPES.guess_type(name, strict=True)
    return guessed if guessed and not encoding else "application/octet-stream"
