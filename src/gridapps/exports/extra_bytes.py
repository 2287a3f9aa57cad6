"""What is wrong with the description of a file's extra dimensions. Runs in the reader."""

import struct

from gridapps.exports.headers import LEAST_RECORD, Header
from gridapps.exports.shown_text import decoded, printable

_SPEC = (b"LASF_Spec", 4)
_DESCRIPTION = 192  # bytes of each dimension
_SIZES = (0, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8)  # bytes by data type; types above 10 are arrays of two and three
_MOST_RECORDS = 100  # of descriptions; usually there is one
_NAMED = 5  # names in a sentence
_STANDARD = {
    *("x", "y", "z", "intensity", "returnnumber", "numberofreturns", "scandirectionflag", "edgeofflightline"),
    *("classification", "synthetic", "keypoint", "withheld", "overlap", "scananglerank", "scanangle"),
    *("scannerchannel", "userdata", "pointsourceid", "gpstime", "red", "green", "blue", "infrared", "nir"),
}


def dimension_faults(file: int, header: Header) -> list[str]:
    """A sentence for each kind of fault. The points are not affected."""
    records = [each for each in header.records if (each.user, each.number) == _SPEC]
    if not records:
        return []
    raw = b"".join(record.content(file) for record in records[:_MOST_RECORDS])
    described = [raw[at : at + _DESCRIPTION] for at in range(0, len(raw) - _DESCRIPTION + 1, _DESCRIPTION)]
    found = []
    if len(raw) % _DESCRIPTION:
        found.append(
            f"The record of the extra dimensions has {len(raw)} bytes, which is no multiple of "
            f"{_DESCRIPTION}."
        )
    names = [each[4:36].partition(b"\0")[0] for each in described]
    if latin := [name for name in names if not _is_utf8(name)]:
        found.append(f"Names of extra dimensions are not UTF-8: {_listed(latin)}.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        found.append(f"Several extra dimensions have the same name: {_listed(twice)}.")
    if standard := [name for name in names if _plain(name) in _STANDARD]:
        found.append(
            f"Extra dimensions are called like standard ones: {_listed(standard)}. Libraries mix them up or "
            "fail."
        )
    there = header.record_length - LEAST_RECORD[header.point_format]
    promised = sum(_size(each) for each in described)
    if promised != there:
        found.append(
            f"The extra dimensions take {promised} bytes by their description, but each point has {there}. "
            "Libraries read them differently or fail."
        )
    return found


def _size(description: bytes) -> int:
    kind, options = struct.unpack_from("<BB", description, 2)
    if kind == 0:
        return int(options)
    if kind < len(_SIZES):
        return _SIZES[kind]
    return _SIZES[(kind - 1) % 10 + 1] * ((kind - 1) // 10 + 1) if kind <= 30 else 0


def _plain(name: bytes) -> str:
    return decoded(name).lower().replace("_", "").replace(" ", "")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _listed(names: list[bytes]) -> str:
    shown = ", ".join(printable(decoded(name)) or "(empty)" for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
