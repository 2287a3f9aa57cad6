"""What the process that reads point clouds can still do once it is confined."""

import json
import os
import resource
import subprocess
import sys

from gridapps.exports import reader_confinement

PROGRAM = """
import array, ctypes, fcntl, json, os, resource, signal, socket, subprocess, sys, threading
other = int(sys.argv[1])
from gridapps.exports import reader_confinement
ready = socket.socketpair()
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0
here = os.open("/", os.O_RDONLY)
reader_confinement.confine()
attempts = {
    "open": lambda: open("/etc/passwd"),
    "open in the place of a closed file": lambda: (os.close(2), os.open("/etc/passwd", os.O_RDONLY)),
    "open below a directory": lambda: os.open("etc/passwd", os.O_RDONLY, dir_fd=here),
    "list": lambda: os.listdir("/"),
    "read a link": lambda: os.readlink("/proc/self/exe"),
    "write": lambda: open("/tmp/x", "w"),
    "connect": lambda: socket.create_connection(("127.0.0.1", 1)),
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "fork": os.fork,
    "program": lambda: subprocess.run(["true"]),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda: os.kill(os.getppid(), 0),
    "memory file": lambda: os.memfd_create("x"),
    "link": lambda: os.link("/etc/passwd", "/tmp/x"),
    "remove": lambda: os.unlink("/tmp/x"),
    "mode": lambda: os.chmod("/tmp/x", 0o777),
    "limit of another process": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE, (0, 0)),
    "limit of its parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0)),
    "reading a limit of another process": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE),
    "priority of another process": lambda: os.setpriority(os.PRIO_PROCESS, other, 19),
    "processors of another process": lambda: os.sched_setaffinity(other, {0}),
    "scheduling of another process": lambda: os.sched_setscheduler(other, os.SCHED_IDLE, os.sched_param(0)),
    "signals for another process": lambda: fcntl.fcntl(ready[0], fcntl.F_SETOWN, other),
    "which signal": lambda: fcntl.fcntl(ready[0], fcntl.F_SETSIG, signal.SIGKILL),
    "signals of a socket": lambda: fcntl.ioctl(ready[0], 0x8901, array.array("i", [other])),
    "memory of another process": lambda: open(f"/proc/{other}/mem", "r+b"),
}
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "succeeded"
    except OSError as error:
        found[name] = type(error).__name__
resource.prlimit(0, resource.RLIMIT_CPU, (60, 60))
found["own limit"] = resource.getrlimit(resource.RLIMIT_CPU)[0]
thread = threading.Thread(target=lambda: found.update(thread="ran"))
thread.start()
thread.join()
ready[0].sendall(b"x")
found["answer"] = ready[1].recv(1).decode()
os.write(1, json.dumps(found).encode())
"""


def test_confined_reader_opens_connects_and_starts_nothing_and_leaves_other_processes_alone() -> None:
    """`sleep` is a process of the same account, like the importer and its other readers."""
    assert reader_confinement.available()
    with subprocess.Popen(["sleep", "infinity"]) as other:
        before = _state(other.pid)
        command = [sys.executable, "-c", PROGRAM, str(other.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = _state(other.pid)
        other.kill()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found.pop("thread"), found.pop("answer"), found.pop("own limit")) == ("ran", "x", 60)
    assert set(found.values()) == {"PermissionError"}, found
    assert after == before


def _state(process: int) -> object:
    return (
        resource.prlimit(process, resource.RLIMIT_NOFILE),
        os.getpriority(os.PRIO_PROCESS, process),
        os.sched_getaffinity(process),
        os.sched_getscheduler(process),
    )
