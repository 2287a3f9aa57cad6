"""Which libraries that Apps use will fail on a file that was imported. Runs in the reader.

PDAL 2.2 is that of Debian 12; its limits were found by trying. laspy is tried on the file itself.
"""

import os

import laspy

from gridapps.exports.extra_bytes import dimension_faults
from gridapps.exports.headers import Header
from gridapps.exports.laszip_chunks import POINTWISE
from gridapps.exports.shown_text import first_line

_WAVEFORMS = {4, 5, 9, 10}


def remarks_on(file: int, header: Header) -> list[str]:
    """A sentence for each library that will fail, and for each dimension that confuses them."""
    found = []
    if header.point_format in _WAVEFORMS:
        found.append(f"PDAL 2.2 cannot read point format {header.point_format} (full waveforms).")
    elif header.point_format >= 6 and header.version != "1.4":
        found.append(f"PDAL 2.2 cannot read point format {header.point_format} in LAS {header.version}.")
    if header.compression is not None:
        if max(header.compression.item_versions, default=0) > 3:
            found.append(
                "The points are compressed with LASzip's items of version 4: laspy with lazrs cannot read "
                "them; "
                "PDAL 2.2 and LASzip can."
            )
        if header.compression.compressor == POINTWISE:
            found.append(
                "The points are compressed without chunks: laspy reads them only with laszip or the "
                "sequential "
                "decoder of lazrs."
            )
    found += dimension_faults(file, header)
    if fault := _fault_of_laspy(file):
        found.append(f"laspy {laspy.__version__} cannot read the file: {fault}.")
    return found


def _fault_of_laspy(file: int) -> str:
    with os.fdopen(os.dup(file), "rb") as source:
        source.seek(0)
        try:
            opened = laspy.open(source, read_evlrs=False, closefd=False, laz_backend=laspy.LazBackend.Lazrs)
            opened.header.point_format.dtype()
        except MemoryError:
            raise
        except BaseException as error:  # panics of lazrs are BaseExceptions
            return first_line(error).rstrip(".")
    return ""
