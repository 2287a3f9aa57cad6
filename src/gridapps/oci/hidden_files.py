"""Files of an image that no program sees, because a container has other files at their place.

A model that was copied to /tmp is in the image, and missing in the container. The push accepts such an image,
since most files there are leftovers of the build, and remarks on them.
"""

from collections.abc import Sequence

from gridapps.oci.trees import HIDDEN, LARGE, LINK, RECORD, REMOVED, quote, unpacked

_MOUNTED = (b"tmp", b"grid", b"grid-scratch", b"input", b"dev/shm", b".gridapps")
_FILES = {HIDDEN, LARGE, LINK}
_SHOWN = 3
_OPAQUE = b".wh..wh..opq"


def is_hidden(path: bytes) -> bool:
    """Whether a path is below a directory that is mounted over, or that directory."""
    return any(path == top or path.startswith(top + b"/") for top in _MOUNTED)


def remarks_on(packed: Sequence[bytes]) -> list[str]:
    """A sentence about an image's hidden files. `packed`: the indexes of its layers, the lowest first.

    An index of an older version does not have them. Raises Invalid for indexes that were refused already.
    """
    files: dict[bytes, None] = {}
    for index in unpacked(packed):
        records = [(found[1], found[2]) for found in RECORD.finditer(index) if is_hidden(found[1])]
        for removed in (path for path, kind in records if kind == REMOVED):
            files = {path: None for path in files if not _is_in(path, removed)}
        files.update(dict.fromkeys(path for path, kind in records if kind in _FILES))
    if not files:
        return []
    names = ", ".join(quote(path) for path in list(files)[:_SHOWN])
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return [
        f"Programs do not see {names}{more}: a container has other files there. "
        "If they are needed, put them into another directory, such as /opt."
    ]


def _is_in(path: bytes, removed: bytes) -> bool:
    above = removed.removesuffix(b"/" + _OPAQUE)
    return path.startswith(above + b"/") or (path == removed)
