"""What the process that reads point clouds can still do once it is confined."""

import json
import subprocess
import sys

from gridapps.exports import reader_confinement

PROGRAM = """
import ctypes, json, os, signal, socket, subprocess, threading
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
}
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = "succeeded"
    except OSError as error:
        found[name] = type(error).__name__
thread = threading.Thread(target=lambda: found.update(thread="ran"))
thread.start()
thread.join()
ready[0].sendall(b"x")
found["answer"] = ready[1].recv(1).decode()
os.write(1, json.dumps(found).encode())
"""


def test_confined_reader_opens_connects_and_starts_nothing() -> None:
    assert reader_confinement.available()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found.pop("thread"), found.pop("answer")) == ("ran", "x")
    assert set(found.values()) == {"PermissionError"}, found
