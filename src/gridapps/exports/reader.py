"""A program that reads a point cloud from standard input and prints its facts as JSON.

`facts` runs it with limits on memory and time, after `headers` has accepted the header, because the libraries
that decode points are not made for hostile files. Once they are loaded, the program gives up root and the
network. Its answer is the facts, or `{"bad": sentence}`.
"""

import ctypes
import json
import os
import resource
import sys
from typing import Any

from gridapps.exports import reader_confinement

MEMORY = 1024**3  # address space, bytes
_CHUNK = 500_000  # points at once
_LONGEST_CRS = 64 * 1024
_NOBODY = 65534
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000


def main() -> None:
    """The entry point. The argument is the limit on processor time in seconds."""
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        _load()
        _confine()
        answer = _facts()
    except MemoryError:
        answer = {"bad": "Reading the file takes more than 1 GB of memory: it is damaged or malicious."}
    except BaseException as error:  # panics of lazrs are BaseExceptions
        answer = {
            "bad": f"The file cannot be read to its end: it is cut off or damaged ({_first_line(error)})."
        }
    os.write(1, json.dumps(answer).encode())


def _load() -> None:
    """Load the libraries and the database of PROJ, which the account nobody may not be able to open."""
    import laspy  # noqa: F401
    import lazrs  # noqa: F401
    import pyproj

    from gridapps.exports import footprint  # noqa: F401

    pyproj.CRS.from_epsg(4326)


def _confine() -> None:
    """As root, leave the network and change to the account `nobody`. In a container, the former may fail."""
    kernel = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        kernel.unshare(_CLONE_NEWNET)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    if kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.geteuid() != _NOBODY or reader_confinement.available():
        reader_confinement.confine()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _facts() -> dict[str, Any]:
    import laspy
    import numpy as np

    from gridapps.exports.footprint import Hull

    hull = Hull()
    low, high, points = np.full(3, np.inf), np.full(3, -np.inf), 0
    with laspy.open(os.fdopen(0, "rb"), laz_backend=laspy.LazBackend.Lazrs) as file:
        header = file.header
        crs, crs_name = _crs(header)
        for chunk in file.chunk_iterator(_CHUNK):
            if fault := _fault(chunk, points):
                return {"bad": fault}
            xyz = np.column_stack((chunk.x, chunk.y, chunk.z))
            low, high = np.minimum(low, xyz.min(axis=0)), np.maximum(high, xyz.max(axis=0))
            hull.add(xyz[:, :2])
            points += len(chunk)
        if points != header.point_count:
            return {"bad": f"The header promises {header.point_count} points, but only {points} can be read."}
        return {
            "points": points,
            "bounds": [*low.tolist(), *high.tolist()],
            "crs": crs,
            "crs_name": crs_name,
            "footprint": hull.polygon(margin=float(np.abs(header.scales[:2]).max())).wkb_hex,
        }


def _fault(chunk: Any, before: int) -> str:
    """What is wrong with the values of these points, or "". `before`: the number of points before them."""
    import numpy as np

    where = f"points {before + 1} to {before + len(chunk)}"
    for name in ("x", "y", "z"):
        if not np.isfinite(np.asarray(chunk[name])).all():
            return f"Among {where} are values of {name} that are not finite numbers."
    if "gps_time" in chunk.array.dtype.names and (bad := int((~np.isfinite(chunk["gps_time"])).sum())):
        return f"Among {where} are {bad} with a GPS time that is not a finite number."
    return ""


def _crs(header: Any) -> tuple[str, str]:
    """WKT 2 and name of the file's CRS; empty if it is missing or broken, because the points are usable."""
    try:
        crs = header.parse_crs()
        text, name = (crs.to_wkt(), crs.name) if crs else ("", "")
    except Exception:  # pyproj raises many kinds for a broken record
        return "", ""
    if len(text) > _LONGEST_CRS:
        return "", ""
    return text.replace("\0", ""), name.replace("\0", "")[:200]


if __name__ == "__main__":
    main()
