"""The process that reads layers: `python -I -m gridapps.oci.layer_reader`, started by `pushes.reading`.

Layers are untrusted, so the process is isolated: it has three pipes, cannot open files or connections, and
has limits on processor time and memory. For each layer it reads a line of JSON with the limits, and then
pieces, each preceded by its length; an empty piece ends the layer. It answers with a line of JSON. After the
first refusal it exits.
"""

import base64
import ctypes
import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import IO, Any

from gridapps.oci import layer_contents
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_tree import TooLarge

PROCESSOR_TIME = 150  # seconds for the layers of one push
MEMORY = 768 * 1024**2  # bytes of address space
_NO_NEW_PRIVILEGES, _DUMPABLE = 38, 4  # of prctl(2)


def confine_reader() -> None:
    """Drop everything that reading does not need."""
    process = ctypes.CDLL(None, use_errno=True)
    if process.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or process.prctl(_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed")
    os.nice(10)  # pages and the API have priority
    for limit, value in (
        (resource.RLIMIT_CPU, PROCESSOR_TIME),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def answer_requests(stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Answer until the other side closes the pipe, or a layer is refused."""
    while line := stdin.readline(1000):
        answer = _answer(stdin, **json.loads(line))
        stdout.write(json.dumps(answer).encode() + b"\n")
        stdout.flush()
        if "diff_id" not in answer:
            return


def _answer(stdin: IO[bytes], *, max_size: int, max_files: int) -> dict[str, Any]:
    try:
        found = layer_contents.examine_layer(_pieces(stdin), max_size=max_size, max_files=max_files)
    except Invalid as error:
        return {"invalid": str(error)}
    except TooLarge:
        return {"too_large": True}
    except MemoryError:
        return {"invalid": "has more entries, or longer names, than can be read in the memory for it."}
    index = base64.b64encode(found.index).decode()
    return {"diff_id": found.diff_id, "size": found.size, "files": found.files, "index": index}


def _pieces(stdin: IO[bytes]) -> Iterator[bytes]:
    while size := int.from_bytes(_exactly(stdin, 4), "big"):
        yield _exactly(stdin, size)


def _exactly(stdin: IO[bytes], size: int) -> bytes:
    content = stdin.read(size)
    if len(content) != size:
        raise EOFError("The other side has gone.")
    return content


if __name__ == "__main__":
    confine_reader()
    answer_requests(sys.stdin.buffer, sys.stdout.buffer)
