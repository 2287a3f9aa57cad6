"""What anonymous clients can cost: bytes of log, and the time of other clients."""

import resource
import socket
import time
from contextlib import ExitStack

from tests.attacks.scene import Scene
from tests.attacks.wire import request

REQUESTS = {
    "a long path": request("/" + "A" * 7000),
    "a long path of another's Host": request("/" + "A" * 3000, host="evil.example"),
    "a long query": request("/api/authorize?client_id=" + "a" * 7000),
    "a long token": request("/api/v3/runs", "Authorization: Bearer " + "t" * 7000),
    "a long agent at the registry": request("/v2/", "User-Agent: " + "u" * 7000, "Referer: " + "r" * 7000),
    "a long repository": request("/v2/" + "a" * 3000 + "/tags/list", "User-Agent: " + "u" * 7000),
    "a long scope": request("/registry/token?scope=" + "s" * 7000),
    "a long header": request("/login", "X-A: " + "a" * 20_000),
    "a form without its token": request("/login", "Content-Length: 0", method="POST"),
    "a revocation": request("/api/revoke_token", "Content-Length: 0", method="POST"),
    "a long method": request("/login", method="A" * 5000),
    "a manifest": request("/v2/x/manifests/v1", "Content-Length: 0", method="PUT"),
}
LARGEST = 1000  # bytes of log for a request


def logged(scene: Scene) -> int:
    """Bytes of all logs of the instance."""
    files = [scene.instance.printed, *(scene.instance.data / "log").iterdir()]
    return sum(file.stat().st_size for file in files)


def test_anonymous_requests_write_little(scene: Scene) -> None:
    wire = scene.wire()
    too_much = {}
    for name, sent in REQUESTS.items():
        before = logged(scene)
        for _ in range(5):
            wire.exchange(sent)
        time.sleep(0.5)  # the supervisor writes the lines
        written = (logged(scene) - before) / 5
        if written > LARGEST:
            too_much[name] = written
    assert not too_much


def test_slow_clients_of_one_address_hold_up_nobody(scene: Scene) -> None:
    """Thousands of connections from one address, each with one byte of a body."""
    wire, port = scene.wire(), int(scene.instance.settings["GRIDAPPS_PORT"])
    begun = request("/login", "Content-Length: 100", method="POST", body=b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8192, hard)), hard))
    context = wire.context()
    with ExitStack() as held, scene.instance.client() as other:
        for number in range(4038):
            plain = socket.create_connection(("127.0.0.1", port), 20, source_address=("127.0.0.8", 0))
            connection = held.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            connection.sendall(begun)
            if number % 500 == 0:
                assert other.get("/login").status_code == 200
        assert other.get("/login").status_code == 200
        assert other.get("/api/v3/me").status_code == 401
