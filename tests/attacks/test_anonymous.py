"""An attacker without an account or a certificate, who can reach only the TLS port.

tests/registry/test_door.py tries certificates in headers; tests/api/test_outsider.py keys of other users.
"""

import base64
import json
import re
import ssl
import time
import uuid
import warnings
from urllib.parse import quote

import pytest

from gridapps.api.native.api import api
from gridapps.api.native.document import document
from gridapps.web.urls import urlpatterns
from tests.attacks.scene import Scene
from tests.attacks.tries import assert_held
from tests.attacks.wire import Answer, request

ABSENT = "00000000-0000-4000-8000-000000000000"
FREE_CALLS = {("GET", "/openapi.json")}
# Pages that need no login, and endpoints that OAuth clients call with their own secret.
FREE_PAGES = {"login", "token", "revoke-token", "authority", "client", "begin-device-login"}


def _calls() -> dict[str, tuple[str, str]]:
    paths = document(api)["paths"]
    return {
        f"{method.upper()} {path}": (method.upper(), re.sub(r"{[a-z_]*run_id}|{key}", ABSENT, path))
        for path, calls in paths.items()
        for method in calls
        if (method.upper(), path) not in FREE_CALLS
    }


def test_every_call_wants_a_login(scene: Scene) -> None:
    with scene.instance.client() as client:

        def got_through(call: tuple[str, str]) -> object:
            method, path = call
            answer = client.request(method, re.sub(r"{\w+}", "1", path), json={})
            said = answer.json() if answer.headers["Content-Type"] == "application/json" else {}
            return (answer.status_code, said.get("code")) != (401, "unauthenticated") and answer.text

        assert_held(_calls(), got_through)


def test_every_page_leads_to_the_login(scene: Scene) -> None:
    with scene.instance.client() as client:

        def got_through(path: str) -> object:
            for method in ("GET", "POST"):
                answer = client.request(method, path)
                leads = re.search("/login/?[?]next=", answer.headers.get("Location", ""))
                hides = answer.status_code in {403, 404, 405} and scene.run not in answer.text
                fine = leads or hides
                if not fine:
                    return method, answer.status_code, answer.text
            return None

        filled = {
            "serial": "1",
            "pk": "1",
            "app_id": scene.app,
            "run_id": scene.run,
            "upload_id": scene.run,
        }
        pages = {
            pattern.name: "/" + re.sub(r"<\w+:(\w+)>", lambda found: filled[found[1]], str(pattern.pattern))
            for pattern in urlpatterns
            if pattern.name not in FREE_PAGES
        }
        administration = ("/admin/", "/admin/access/user/", "/admin/runs/run/", "/admin/runs/run/queue/")
        assert_held({**pages, **{path: path for path in administration}}, got_through)


def test_metrics_are_for_their_token(scene: Scene) -> None:
    with scene.instance.client() as client:
        for authorization in ("", "Bearer", "Bearer x", f"Bearer {scene.ann.token}", "Basic Og=="):
            answer = client.get("/metrics", headers={"Authorization": authorization})
            assert answer.status_code in {401, 403, 404}, (authorization, answer.text[:200])
            assert "gridapps_" not in answer.text


TOKENS = {
    "nothing": "",
    "a word": "x",
    "a NUL": "\0",
    "a checksum": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "null": "null",
    "SQL": "' OR '1'='1",
    "a wildcard": "%",
    "very long": "A" * 8000,
    "JWT that is not signed": ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=")
        for part in (b'{"alg":"none"}', json.dumps({"sub": "admin", "scope": "admin api"}).encode(), b"")
    ),
}


def test_tokens_that_are_none(scene: Scene) -> None:
    wire = scene.wire()

    def got_through(token: str) -> object:
        for scheme in ("Bearer", "bearer", "Basic", "Token", "Digest"):
            line = f"Authorization: {scheme} {token}"
            answers = wire.exchange(request("/api/v3/runs", line))
            if answers and answers[0].status not in {400, 401}:
                return scheme, answers[0]
        return None

    assert_held(TOKENS, got_through)


def test_credentials_count_in_the_header_alone(scene: Scene) -> None:
    """They do not count in a query, which logs and histories contain, or in a header of another name."""
    token = scene.ann.token
    queries = [f"?{name}={token}" for name in ("access_token", "token", "bearer_token", "api_key", "key")]
    headers = ["X-Authorization", "X-Api-Key", "Proxy-Authorization", "X-Forwarded-User", "Remote-User"]
    with scene.instance.client() as client:

        def got_through(row: tuple[str, dict[str, str]]) -> object:
            answer = client.get(f"/api/v3/runs{row[0]}", headers=row[1])
            return answer.status_code not in {400, 401} and answer.text

        with_headers = [("", {name: f"Bearer {token}"}) for name in headers]
        assert_held([*((query, {}) for query in queries), *with_headers], got_through)


# Headers that claim who sent the request or from where. nginx sets or clears each of them.
SPOOFED = [
    "X-Client-Certificate: {certificate}",
    "X_Client_Certificate: {certificate}",
    "X-Client_Certificate: {certificate}",
    "X-Client-Certificate : {certificate}",
    "x-client-certificate:{certificate}",
    "X-Client-Certificate: \r\n {certificate}",
    "X-Client-Certificate:\t{certificate}",
    "X-SSL-Client-Cert: {certificate}",
    "SSL-Client-Verify: SUCCESS",
    "X-Registry-Authorization: Bearer {token}",
    "Authorization: Bearer {token}",
    "X-Original-URI: /v2/{app}/tags/list",
    "X-Original-Method: GET",
    "X-Rewrite-URL: /v2/{app}/tags/list",
    "X-Original-URL: /v2/{app}/tags/list",
    "X-HTTP-Method-Override: GET",
    "X-Accel-Redirect: /internal/authorize",
    "X-Accel-Internal: /internal/authorize",
    "X-Sendfile: /etc/passwd",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Prefix: /admin",
    "X-Forwarded-Client-Cert: By=x;Hash=y;Cert={certificate}",
    "X-Real-IP: 127.0.0.1",
    "Forwarded: for=127.0.0.1;host=evil.example;proto=https",
    "X-Refusal: no",
    "X-Portion: @portion_1",
    "Connection: close, X-Client-Certificate",
    "Upgrade: h2c",
    "Expect: 100-continue",
    "TE: trailers",
]


def test_headers_make_nobody_a_developer(scene: Scene) -> None:
    wire = scene.wire()
    certificate = quote((scene.dora.certificate() / "client.cert").read_text())
    with scene.instance.client() as client:
        token = client.get("/v2/").headers["WWW-Authenticate"]
    words = {"certificate": certificate, "token": token, "app": scene.app}
    places = (f"/v2/{scene.app}/tags/list", f"/registry/token?scope=repository:{scene.app}:pull")

    def got_through(header: str) -> object:
        for path in places:
            answers = wire.exchange(request(path, header.format(**words)))
            if not answers or answers[0].status not in {400, 401, 404}:
                return path, answers
        return None

    assert_held(SPOOFED, got_through)


def test_headers_change_no_address_of_ours(scene: Scene) -> None:
    """The address that the instance states as its own is a setting, whatever host a client names."""
    wire = scene.wire()
    rows = [
        "X-Forwarded-Host: evil.example",
        "X-Host: evil.example",
        "Forwarded: host=evil.example",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Server: evil.example",
        "X-Original-Host: evil.example",
    ]

    def got_through(header: str) -> object:
        for path in ("/", "/login", "/v2/", "/api/v3/me", "/static", "/admin/"):
            for answer in wire.exchange(request(path, header)):
                told = answer.text + str(answer.headers)
                if "evil.example" in told or "gopher" in told:
                    return path, told
        return None

    assert_held(rows, got_through)


HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "evil.example:{port}",
    "localhost@evil.example",
    "evil.example#localhost",
    "localhost,evil.example",
    "localhost/../evil.example",
    "127.0.0.1.evil.example",
    "[::1]evil.example",
    "localhost:{port}@evil.example",
    "localhost\tevil.example",
    "",
    "*",
    "a" * 300,
]


def test_other_hosts_are_none_of_ours(scene: Scene) -> None:
    wire, port = scene.wire(), scene.instance.settings["GRIDAPPS_PORT"]

    def got_through(host: str) -> object:
        for path in ("/login", "/api/v3/me", "/"):
            answers = wire.exchange(request(path, host=host.format(port=port)))
            if answers and answers[0].status not in {400, 404, 421}:
                return path, answers
        return None

    assert_held(HOSTS, got_through)


# Each with the target that it would reach if one program resolved it differently from the one that judges it.
PATHS = [
    "/internal/authorize",
    "/internal/outputs/",
    "/internal/outputs/{run}/0/1/log",
    "/internal/outputs/../../gridapps.sqlite3",
    "/internal%2foutputs/{run}/0/1/log",
    "//internal/outputs/{run}/0/1/log",
    "/./internal/outputs/{run}/0/1/log",
    "/x/../internal/outputs/{run}/0/1/log",
    "/static/../internal/outputs/{run}/0/1/log",
    "/static/..%2finternal/outputs/{run}/0/1/log",
    "/static../gridapps.sqlite3",
    "/static/../gridapps.sqlite3",
    "/static/..%2fgridapps.sqlite3",
    "/static/%2e%2e/gridapps.sqlite3",
    "/static/%2e%2e%2fsecret-key",
    "/static/..%5csecret-key",
    "/static/..;/secret-key",
    "/static/.../secret-key",
    "/static/%c0%ae%c0%ae/secret-key",
    "/static/%252e%252e/secret-key",
    "/static//etc/passwd",
    "/static/" + "../" * 12 + "etc/passwd",
    "/static/" + "%2e%2e/" * 12 + "etc/passwd",
    "/static/admin/../../secret-key",
    "/static/secret-key%00.css",
    "/static",
    "/.git/config",
    "/.env",
    "/registry/authorize",
    "/Registry/authorize",
    "/registry/authorize/",
    "/registry/authorize;x",
    "/registry/authorize%00",
    "/registry/authorize%0d%0aX-Original-Method:%20GET",
    "/registry%2fauthorize",
    "/registry/./authorize",
    "/registry//authorize",
    "/registry/token/../authorize",
    "/registry/%61uthorize",
    "/registry\\authorize",
    "/api/v3/../../registry/authorize",
    "/api/v3/..%2f..%2fregistry/authorize",
    "/v2/../registry/authorize",
    "/v2/%2e%2e/registry/authorize",
    "/v2/..%2fregistry%2fauthorize",
    "/v2/grid/{app}/manifests/v1",
    "/v2/grid%2f{app}/manifests/v1",
    "/v2/grid/{app}/blobs/sha256:" + "0" * 64,
    "/v2/{app}/manifests/v1",
    "/v2/{app}/manifests/v1?",
    "/v2/{app}/manifests/v1/",
    "/v2/{app}//manifests/v1",
    "/v2//{app}/manifests/v1",
    "/v2/./{app}/manifests/v1",
    "/v2/{app};x/manifests/v1",
    "/v2/{app}/manifests;x/v1",
    "/v2/%00/{app}/manifests/v1",
    "/v2/{app}%2fmanifests%2fv1",
    "/v2/{app}/%6danifests/v1",
    "/v2/{app}/MANIFESTS/v1",
    "/V2/{app}/manifests/v1",
    "/v2/ /../{app}/manifests/v1",
    "/v2/_catalog",
    "/v2/_catalog?n=1",
    "/v2/_catalog/",
    "/v2/%5fcatalog",
    "/v2/grid/_catalog",
    "/v2/{app}/tags/list",
    "/v2/{app}/tags/list?n=1000000000000000000000",
    "/v2/{app}/referrers/sha256:" + "0" * 64,
    "/v2/{app}/../{app}/manifests/v1",
    "/v2/{app}/%2e%2e/{app}/manifests/v1",
    "/v2/{app}/..%252f{app}/manifests/v1",
    "/v2/\xef\xbc\x8e\xef\xbc\x8e/{app}/manifests/v1",
    "/\xef\xbd\x96\x32/{app}/manifests/v1",
    "/metrics/../internal/outputs/",
    "/metrics/x",
    "*",
    "localhost:443",
    "http://127.0.0.1:{registry}/v2/_catalog",
    "https://localhost/internal/authorize",
    "https://localhost/v2/{app}/tags/list",
    "unix:/run/application.sock:/registry/authorize",
    "@refused",
    "/@refused",
    "/@portion_1048576",
    "/debug/pprof/",
    "/debug/health",
    "/server-status",
    "/nginx_status",
    "/admin/../registry/authorize",
    "/api/v3/runs/{run}/../../../internal/outputs/{run}/0/1/log",
    "/api/v3/runs/{run}/log/../outputs.zip",
]


def _opens(answer: Answer) -> bool:
    """Whether the response is anything but a refusal, a redirect to the login, or a public page."""
    if answer.status in {301, 302}:
        return "/login" not in answer.headers.get("location", "") and "secret" in answer.text
    return answer.status not in {0, 400, 401, 403, 404, 405, 414}


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get"]
)
def test_no_path_leads_in(scene: Scene, method: str) -> None:
    wire = scene.wire()
    words = {
        "app": scene.app, "run": scene.run, "registry": scene.instance.settings["GRIDAPPS_REGISTRY_PORT"]
    }  # fmt: skip

    def got_through(path: str) -> object:
        filled = path.replace("{app}", words["app"]).replace("{run}", words["run"])
        filled = filled.replace("{registry}", words["registry"])
        answers = wire.exchange(request(filled, method=method), methods=(method,))
        return [answer for answer in answers if _opens(answer)]

    assert_held(PATHS, got_through)


def _smuggled(canary: str) -> bytes:
    return f"POST /{canary} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def _smuggling(canary: str) -> dict[str, bytes]:
    """Requests that two readers could split differently; the hidden second one would ask for the canary."""
    hidden = _smuggled(canary)
    head = b"POST /api/v3/apps HTTP/1.1\r\nHost: localhost\r\n"
    ended = b"0\r\n\r\n"
    length = f"Content-Length: {len(ended + hidden)}\r\n".encode()
    codings = {
        "CL.TE": length + b"Transfer-Encoding: chunked\r\n",
        "TE.CL": b"Transfer-Encoding: chunked\r\n" + length,
        "TE with a space before the colon": length + b"Transfer-Encoding : chunked\r\n",
        "TE with a tab": length + b"Transfer-Encoding:\tchunked\r\n",
        "TE with a vertical tab": length + b"Transfer-Encoding:\x0bchunked\r\n",
        "TE on a folded line": length + b"Transfer-Encoding:\r\n chunked\r\n",
        "TE behind a bare line feed": length + b"X: y\nTransfer-Encoding: chunked\r\n",
        "TE behind a bare carriage return": length + b"X: y\rTransfer-Encoding: chunked\r\n",
        "TE behind a NUL": length + b"X: y\0\r\nTransfer-Encoding: chunked\r\n",
        "TE in quotes": length + b'Transfer-Encoding: "chunked"\r\n',
        "TE with a parameter": length + b"Transfer-Encoding: chunked;q=1\r\n",
        "TE twice": length + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "TE as a list": length + b"Transfer-Encoding: gzip, chunked\r\n",
        "TE identity": length + b"Transfer-Encoding: identity\r\n",
        "TE with an underscore": length + b"Transfer_Encoding: chunked\r\n",
        "TE unknown": length + b"Transfer-Encoding: xchunked\r\n",
        "TE with NUL": length + b"Transfer-Encoding: chunked\0\r\n",
        "two lengths": b"Content-Length: 5\r\n" + length,
        "two lengths in one": b"Content-Length: 5, 5\r\n",
        "a length with a sign": b"Content-Length: +5\r\n",
        "a negative length": b"Content-Length: -1\r\n",
        "a length in hexadecimal": b"Content-Length: 0x5\r\n",
        "a length with a space": b"Content-Length: 5 \r\n" + length,
        "a length with an underscore": b"Content_Length: 5\r\nContent-Length: 5\r\n",
        "a length with a space before the colon": b"Content-Length : 5\r\n" + length,
        "a length that overflows": b"Content-Length: 18446744073709551621\r\n",
        "a length of Unicode digits": "Content-Length: \u0665\r\n".encode(),
        "no length": b"",
    }
    rows = {name: head + line + b"\r\n" + ended + hidden for name, line in codings.items()}
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = {
        "chunk extension": b"5;x=y\r\nhello\r\n" + ended,
        "chunk extension with a line feed": b"5;x\nhello\r\n" + ended,
        "chunk size with a sign": b"+5\r\nhello\r\n" + ended,
        "chunk size in 0x": b"0x5\r\nhello\r\n" + ended,
        "chunk size with spaces": b" 5 \r\nhello\r\n" + ended,
        "chunk size that overflows": b"10000000000000005\r\nhello\r\n" + ended,
        "chunk size that is negative": b"-1\r\nhello\r\n" + ended,
        "chunk without an end": b"5\r\nhello" + ended,
        "chunk that ends in line feeds": b"5\nhello\n0\n\n",
        "chunk that is longer than it says": b"3\r\nhello\r\n" + ended,
        "trailers": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\nX-Client-Certificate: x\r\n\r\n",
        "a last chunk of 00": b"5\r\nhello\r\n00\r\n\r\n",
    }
    rows |= {name: chunked + body + hidden for name, body in chunks.items()}
    return rows | {
        "a body of a GET": b"GET /login HTTP/1.1\r\nHost: localhost\r\n"
        + f"Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden,
        "a body of a GET in a chunk": b"GET /login HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + _chunk(hidden) + ended,
        "a body of what nginx itself answers": b"POST /static/none.css HTTP/1.1\r\nHost: localhost\r\n"
        + f"Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden,
        "a body that is too large": b"POST /api/v3/apps HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 9000000\r\n\r\n" + hidden,
        "a body of a refused push": b"PUT /v2/x/manifests/v1 HTTP/1.1\r\nHost: localhost\r\n"
        + f"Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden,
        "a body of a refused upload": b"PATCH /v2/x/blobs/uploads/y HTTP/1.1\r\nHost: localhost\r\n"
        + f"Content-Length: {len(hidden)}\r\n\r\n".encode() + hidden,
        "line feeds in the path": f"GET /x%0d%0a%0d%0aPOST%20/{canary} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        "a request in the request line": b"GET /login HTTP/1.1\r\n\tHost: x\r\n" + hidden,
        "a line feed in the method": f"GET\n/{canary} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        "an upgrade to HTTP/2": b"GET /login HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "an upgrade to a websocket": b"GET /login HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: AAAA\r\n\r\n" + hidden,
    }  # fmt: skip


def _logged(scene: Scene, word: str) -> bool:
    return any(word in log.read_text(errors="replace") for log in (scene.instance.data / "log").glob("*"))


def _seen(scene: Scene, word: str, *, seconds: float = 10) -> bool:
    """Whether the application's log contains the word within `seconds`."""
    end = time.monotonic() + seconds
    while not _logged(scene, word):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_what_arrives_is_seen_in_the_log(scene: Scene) -> None:
    """The next test relies on this: a request that reaches the application leaves its path in the log."""
    canary = uuid.uuid4().hex
    scene.wire().exchange(request(f"/{canary}", method="POST"))
    assert _seen(scene, canary)


def test_no_request_is_hidden_in_another(scene: Scene) -> None:
    """No part behind nginx reads a request that nginx did not see as one."""
    wire = scene.wire()
    canaries = {name: uuid.uuid4().hex for name in _smuggling("x")}
    behind = request("/api/v3/me")  # ends the connection, which nginx keeps open in some cases
    answered: dict[str, int] = {}
    for name, canary in canaries.items():
        answers = wire.exchange(_smuggling(canary)[name] + behind, methods=("POST", "POST", "GET"))
        # A second request that nginx saw itself is not smuggled: it is answered on this connection.
        answered[name] = sum(answer.status != 0 for answer in answers)
    marker = uuid.uuid4().hex
    wire.exchange(request(f"/{marker}", method="POST"))
    assert _seen(scene, marker)

    def got_through(name: str) -> object:
        return _logged(scene, canaries[name]) and answered[name] < 2 and f"{answered[name]} answers"

    assert_held({name: name for name in canaries}, got_through)


def test_nobody_gets_the_answer_to_anothers_request(scene: Scene) -> None:
    """Clients share nginx's connections to the application. The responses after each attempt must match."""
    wire = scene.wire()
    for attack in _smuggling(uuid.uuid4().hex).values():
        wire.exchange(attack + request("/api/v3/me"))
    with scene.ann.client() as ann, scene.instance.client() as nobody:
        for _ in range(40):
            assert ann.get("/api/v3/me").json()["user"]["username"] == scene.ann.name
            assert nobody.get("/api/v3/me").status_code == 401


ODD = {
    "HTTP/0.9": b"GET /login\r\n\r\n",
    "HTTP/0.9 to what is internal": b"GET /internal/authorize\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": b"GET /login HTTP/3.0\r\nHost: localhost\r\n\r\n",
    "HTTP/1.01": b"GET /login HTTP/1.01\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "no version number": b"GET /login HTTP/\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /login HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /api/v3/me HTTP/1.1\r\nHost: localhost\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a very long line": b"GET /" + b"A" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a very long header": b"GET /login HTTP/1.1\r\nHost: localhost\r\nX: " + b"A" * 70_000 + b"\r\n\r\n",
    "many headers": b"GET /login HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "NUL in a header": b"GET /login HTTP/1.1\r\nHost: localhost\r\nX: \0\r\nConnection: close\r\n\r\n",
    "NUL in the path": b"GET /lo\0gin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "a header without a colon": b"GET /login HTTP/1.1\r\nHost: localhost\r\nX\r\nConnection: close\r\n\r\n",
    "bytes that are no HTTP": bytes(range(256)),
    "another TLS hello inside": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "a proxy's preface": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /login HTTP/1.1\r\nHost: x\r\n\r\n",
    "empty lines": b"\r\n" * 200,
}  # fmt: skip


def test_odd_requests_are_refused_or_plainly_answered(scene: Scene) -> None:
    wire = scene.wire()

    def got_through(sent: bytes) -> object:
        begun = time.monotonic()
        answers = wire.exchange(sent + b"\r\n\r\n" + request("/api/v3/me"), methods=("GET", "GET"))
        wrong = [answer for answer in answers if answer.status >= 500 and answer.status != 505]
        return wrong or (time.monotonic() - begun > 15 and "hung")

    assert_held(ODD, got_through)


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_tls_is_refused(scene: Scene, version: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore"):  # that it is old
        context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("ALL:@SECLEVEL=0")
    with scene.wire().plain() as plain, pytest.raises(ssl.SSLError, match=r"(?i)alert"):
        context.wrap_socket(plain, server_hostname="localhost")


def test_pages_cannot_be_framed_and_run_no_scripts_of_others(scene: Scene) -> None:
    with scene.instance.client() as client:
        for path in ("/login", "/", "/api/v3/me", "/admin/login/", "/nothing"):
            headers = client.get(path).headers
            assert headers["X-Frame-Options"] == "DENY", path
            assert headers["X-Content-Type-Options"] == "nosniff", path
            policy = dict(
                directive.strip().partition(" ")[::2]
                for directive in headers["Content-Security-Policy"].split(";")
            )
            assert policy["default-src"] == "'none'", path
            assert policy["script-src"] == "'self'", path
            assert policy["frame-ancestors"] == "'none'", path
            assert policy["base-uri"] == "'none'", path
            assert policy["form-action"].split() == ["'self'"], path


def test_the_login_leads_to_no_other_site(scene: Scene) -> None:
    rows = [
        "https://evil.example/", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example",
        "https:evil.example", "javascript:alert(1)", "/\t/evil.example", "\t//evil.example",
        "https://localhost@evil.example/", "http:///evil.example", "//localhost:1/", "data:text/html,x",
        "https://localhost.evil.example/",
    ]  # fmt: skip
    with scene.tom.browser() as browser:

        def got_through(target: str) -> object:
            """The login page redirects a user who is logged in no further than the home page."""
            page = browser.get("/login", params={"next": target})
            return page.is_redirect and page.headers["Location"]

        assert_held(rows, got_through)
        for target in rows:
            form = browser.get("/login", params={"next": target})
            csrf = browser.cookies["csrftoken"]
            data = {
                "username": scene.tom.name, "password": scene.tom.password, "next": target,
                "csrfmiddlewaretoken": csrf,
            }  # fmt: skip
            assert form.status_code == 200
            answer = browser.post("/login", data=data, headers={"Referer": f"{scene.instance.url}/login"})
            if answer.status_code == 429:  # the limit of logins applies here too
                break
            assert answer.headers["Location"] == "/", target
