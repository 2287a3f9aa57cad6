"""A program that reads point clouds and sends their facts as lines of JSON.

`reader_process` runs it, with a socket as its standard input: each message is a limit on processor time in
seconds with the descriptor of a file, and each answer the facts or `{"bad": sentence}`. The limit 0 asks only
for a check of the header, whose answer is `{}`. It has limits on memory and time, because the libraries that
decode points are not made for hostile files. Once they are loaded, it gives up root and the network. It ends
after a MemoryError, so that no file is affected by the one before.
"""

import ctypes
import json
import os
import resource
import socket
import warnings
from typing import Any

from gridapps.exports import reader_confinement
from gridapps.exports.errors import BadPointCloud
from gridapps.exports.shown_text import first_line

MEMORY = 1024**3  # address space, bytes
SECONDS_OF_A_HEADER = 8  # of processor time
READY = b"ready\n"  # the first line that is sent
_NOBODY = 65534
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000


def main() -> None:
    """The entry point."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    warnings.simplefilter("ignore")
    _load()
    with socket.socket(fileno=0) as requests:
        _confine()
        requests.sendall(READY)
        while (answer := _answer_next(requests)) is not None:
            requests.sendall(json.dumps(answer).encode() + b"\n")
            if answer.get("bad") == _TOO_MUCH:
                return


_TOO_MUCH = "Reading the file takes more than 1 GB of memory: it is damaged or malicious."


def _answer_next(requests: socket.socket) -> dict[str, Any] | None:
    """The answer to the next request; None if there are no more."""
    message, files, _, _ = socket.recv_fds(requests, 32, 1)
    if not message:
        return None
    try:
        seconds = int(message)
        _limit_time(seconds or SECONDS_OF_A_HEADER)
        return _facts(files[0], header_only=not seconds)
    finally:
        for file in files:
            os.close(file)


def _facts(file: int, *, header_only: bool) -> dict[str, Any]:
    from gridapps.exports import headers
    from gridapps.exports.measuring import measure

    try:
        if header_only:
            headers.read(file, size=os.fstat(file).st_size)
            return {}
        return measure(file)
    except BadPointCloud as error:
        return {"bad": str(error)}
    except MemoryError:
        return {"bad": _TOO_MUCH}
    except BaseException as error:  # panics of lazrs are BaseExceptions
        text = first_line(error)
        if "memory allocation" in text or "bad_alloc" in text:
            return {"bad": _TOO_MUCH}
        return {"bad": f"The file cannot be read to its end: it is cut off or damaged ({text.rstrip('.')})."}


def _limit_time(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))


def _load() -> None:
    """Load libraries and the database of PROJ. Nothing can be opened later."""
    from gridapps.exports import coordinates, measuring  # noqa: F401

    coordinates.warm_up()


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


if __name__ == "__main__":
    main()
