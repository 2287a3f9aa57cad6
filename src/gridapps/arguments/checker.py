"""The process that checks schemas and arguments. The kernel kills it beyond its limits.

It reads requests from standard input and writes answers to standard output: four bytes of length, then JSON.
It exits when it was idle for a while, and when its parent ends.
"""

import json
import math
import os
import resource
import select
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from gridapps.arguments import schemas

SECONDS = 2  # of processor time for one request; the kernel counts whole seconds
MEMORY = 512 * 1024**2  # bytes of address space
RECYCLED = 200 * 1024  # KiB of resident memory; beyond it the process exits after the request
IDLE = 60.0  # seconds
LENGTH = struct.Struct(">I")
OPERATIONS: Mapping[str, Callable[..., Any]] = {"check": schemas.check_schema, "complete": schemas.complete}


def main() -> None:
    """Answer requests until standard input ends."""
    os.nice(10)  # the application that serves requests has priority
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given, answers = sys.stdin.buffer, sys.stdout.buffer
    while select.select([given], [], [], IDLE)[0] and (request := read_message(given)) is not None:
        limit = math.ceil(time.process_time()) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        write_message(answers, _answer(request))
        if _peak() > RECYCLED:
            return


def _peak() -> int:
    """KiB of memory that were resident at most. `getrusage` includes the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": OPERATIONS[request["operation"]](*request["arguments"])}
    except (schemas.InvalidSchema, schemas.InvalidArguments) as error:
        return {"refused": type(error).__name__, "message": str(error), "fields": error.fields}
    except MemoryError:
        raise
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def write_message(stream: IO[bytes], value: object) -> None:
    """Write a message."""
    text = json.dumps(value).encode()
    stream.write(LENGTH.pack(len(text)) + text)
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read a message; None at the end."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    text = stream.read(LENGTH.unpack(head)[0])
    value: dict[str, Any] = json.loads(text)
    return value


if __name__ == "__main__":
    main()
