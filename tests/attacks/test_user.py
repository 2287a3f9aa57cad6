"""An attacker with an account, against other users' data; and pages of other sites that use a user's browser.

tests/api/test_outsider.py compares each response for another user's object with that for a missing one;
tests/hooks/test_targets.py and tests/hooks/test_posting.py try targets of hooks.
"""

import json
import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from gridapps.web.urls import urlpatterns
from tests.attacks.scene import Scene, csrf
from tests.attacks.tries import assert_held
from tests.attacks.wire import request

OTHERS = ("otto", "tom", "dora", "erik")  # none of them is ann, nor an administrator


def _of_anns_run(scene: Scene) -> list[tuple[str, str, object]]:
    run = scene.run
    task = scene.ann.show(run)["tasks"][0]["id"]
    return [
        ("GET", f"/runs/{run}", None),
        ("GET", f"/runs/{run.upper()}", None),
        ("GET", f"/runs/{{own}},{run}", None),
        ("GET", f"/runs/{run},{run}", None),
        ("GET", f"/runs/{run}/log", None),
        ("GET", f"/runs/{run}/outputs", None),
        ("GET", f"/runs/{run}/outputs.zip", None),
        ("GET", f"/runs/{run}/outputs/0/numbers.txt", None),
        ("GET", f"/runs/{{own}}/outputs/../../{run}/outputs/0/numbers.txt", None),
        ("GET", f"/runs/{{own}}/outputs/0/..%2f..%2f..%2f{run}/0/1/files/numbers.txt", None),
        ("GET", f"/tasks/{task}", None),
        ("POST", f"/runs/{run}/cancel", None),
        ("POST", f"/runs/{run}/retry", None),
        ("PUT", f"/runs/{run}/developer", None),
        ("DELETE", f"/runs/{run}/developer", None),
        ("DELETE", f"/runs/{run}/outputs", None),
        ("GET", f"/exports/{scene.export}", None),
        ("GET", f"/exports/0{scene.export}", None),
        ("GET", f"/exports/{scene.export},{scene.export}", None),
        ("POST", f"/apps/{scene.app}/runs", {"export": scene.export}),
        ("POST", f"/apps/{scene.other_app}/runs", {"export": scene.export}),
        ("PUT", f"/apps/{scene.app}/runs/{run}", {"export": scene.export}),
    ]


def test_a_run_is_its_owners(scene: Scene) -> None:
    rows = [(name, *row) for name in OTHERS for row in _of_anns_run(scene)]
    absent = "00000000-0000-4000-8000-000000000000"

    def got_through(row: tuple[str, str, str, object]) -> object:
        name, method, path, body = row
        with scene.people[name].client() as client:
            answer = client.request(method, f"/api/v3{path.replace('{own}', absent)}", json=body)
        return answer.status_code not in {400, 404, 405, 409} and (answer.status_code, answer.text)

    assert_held(rows, got_through)
    assert scene.ann.show(scene.run)["state"] == "SUCCESS"
    assert scene.ann.output(scene.run, "0/numbers.txt").startswith(b"1\n2\n")


def test_lists_hold_what_is_ones_own(scene: Scene) -> None:
    secrets = (scene.run, scene.ann.name)
    lists = (
        "/runs", "/runs?shown=true", "/runs?state=SUCCESS", f"/runs?app={scene.app}", "/tasks",
        f"/tasks?run={scene.run}", "/exports", "/hooks", "/developer/certificates",
        f"/apps/{scene.app}/counts",
    )  # fmt: skip

    def got_through(row: tuple[str, str]) -> object:
        name, path = row
        with scene.people[name].client() as client:
            text = client.get(f"/api/v3{path}").text
        return [secret for secret in secrets if secret in text]

    assert_held([(name, path) for name in OTHERS for path in lists], got_through)


OUTPUTS = [
    "0/../log", "0/../../1/log", "0/%2e%2e/log", "0/..%2flog", "0/..%5clog", "0/./log", "0//numbers.txt",
    "0/../../../../gridapps.sqlite3", "0/%2e%2e/%2e%2e/%2e%2e/%2e%2e/gridapps.sqlite3", "0/numbers.txt%00",
    "0/numbers.txt/", "0/sub", "0/sub/", "0/", "0", "", "00/numbers.txt", "+0/numbers.txt", "-0/numbers.txt",
    "0x0/numbers.txt", "1/numbers.txt", "\u0660/numbers.txt", "0/numbers.txt;x", "0/NUMBERS.TXT",
    "0/%252e%252e/log", "0/\u2024\u2024/log", "0/numbers.txt%0d%0aX-Accel-Redirect:%20/x", "0//etc/passwd",
    "/etc/passwd", "0/%2fetc%2fpasswd", "0/..;/log", "0/sub/../numbers.txt", "0/sub/%2e%2e/numbers.txt",
]  # fmt: skip


def test_an_outputs_path_leads_nowhere_else(scene: Scene) -> None:
    """In ann's own run, only the paths of its outputs exist, whatever files are beside them."""
    wire = scene.wire()

    def got_through(path: str) -> object:
        target = f"/api/v3/runs/{scene.run}/outputs/{path}".encode().decode("latin-1")
        answers = wire.exchange(request(target, f"Authorization: Bearer {scene.ann.token}"))
        # nginx removes dots from paths, as browsers do: the path may then be that of another output.
        good = answers and answers[0].status == 200 and answers[0].body.startswith((b"1\n2\n", b'{"outputs"'))
        return answers and answers[0].status not in {301, 400, 404, 405} and not good and answers[0]

    assert_held(OUTPUTS, got_through)


RANGES = [
    "bytes=0-", "bytes=-1", "bytes=0-0,1-1", "bytes=" + ",".join("0-" for _ in range(2000)), "bytes=5-1",
    "bytes=-0", "bytes=18446744073709551615-", "bytes=-18446744073709551616", "bytes=0-18446744073709551615",
    "bytes=a-b", "bytes", "bytes=", "bytes=--1", "items=0-1", "bytes=0-1, bytes=2-3", "bytes=\u0660-\u0661",
    "bytes=0-0," * 100, "bytes=00000000000000000000000-1", "bytes=1e1-",
]  # fmt: skip


def test_ranges_give_parts_of_the_file_and_nothing_more(scene: Scene) -> None:
    whole = scene.ann.output(scene.run, "0/numbers.txt")
    wire = scene.wire()
    target = f"/api/v3/runs/{scene.run}/outputs/0/numbers.txt"

    def got_through(wanted: str) -> object:
        line = f"Range: {wanted}".encode().decode("latin-1")
        answers = wire.exchange(request(target, f"Authorization: Bearer {scene.ann.token}", line))
        answer = answers[0]
        if answer.status in {400, 416}:
            return None
        if "multipart/byteranges" in answer.headers["content-type"]:
            return len(answer.body) > 2 * len(whole) and "amplified"
        return answer.status not in {200, 206} or answer.body not in whole

    assert_held(RANGES, got_through)


def test_what_a_program_made_is_saved_and_never_shown(scene: Scene) -> None:
    with scene.ann.browser() as browser:
        for path in ("outputs/0/numbers.txt", "outputs.zip", "log"):
            headers = browser.get(f"/api/v3/runs/{scene.run}/{path}").headers
            assert headers["X-Content-Type-Options"] == "nosniff", path
            assert "default-src 'none'" in headers["Content-Security-Policy"], path
            if path != "log":
                assert headers["Content-Disposition"].startswith("attachment;"), path


def _forms() -> list[str]:
    filled = {
        "serial": "1",
        "pk": "1",
        "app_id": "{app}",
        "run_id": "{run}",
        "upload_id": "{run}",
        "name": "x",
    }
    return [
        "/" + re.sub(r"<\w+:(\w+)>", lambda found: filled[found[1]], str(pattern.pattern))
        for pattern in urlpatterns
        if pattern.name not in {"token", "revoke-token", "begin-device-login", "home"}
    ]


def test_no_form_of_another_site_is_taken(scene: Scene) -> None:
    """Without a CSRF token, with that of another session, from another origin, or a form instead of JSON."""
    calls = [
        ("POST", "/api/v3/developer", {"statement": "x"}),
        ("POST", f"/api/v3/runs/{scene.run}/cancel", None),
        ("DELETE", f"/api/v3/runs/{scene.run}/outputs", None),
        ("PUT", f"/api/v3/runs/{scene.run}/developer", None),
        ("POST", "/api/v3/hooks", {"target": "https://evil.example/", "event": "run.complete"}),
    ]
    with scene.ann.browser() as browser, scene.tom.browser() as other:
        own, foreign = csrf(browser)["csrfmiddlewaretoken"], csrf(other)["csrfmiddlewaretoken"]
        evil = {"Origin": "https://evil.example", "Referer": "https://evil.example/"}
        variants: dict[str, dict[str, str]] = {
            "no token": {},
            "another's token": {"X-CSRFToken": foreign},
            "a word": {"X-CSRFToken": "a" * 32},
            "the right token from another site": {"X-CSRFToken": own, **evil},
            "the right token without an origin": {"X-CSRFToken": own, "Referer": ""},
            "an origin of null": {"X-CSRFToken": own, "Origin": "null"},
            "an origin of another port": {"X-CSRFToken": own, "Origin": "https://localhost:1"},
            "an origin without TLS": {"X-CSRFToken": own, "Origin": scene.instance.url.replace("s:", ":", 1)},
        }

        def got_through(row: tuple[str, str]) -> object:
            variant, form = row
            path = form.format(app=scene.app, run=scene.run)
            answer = browser.post(path, data={"reason": "x"}, headers=variants[variant])
            return answer.status_code not in {403, 405} and (answer.status_code, answer.text)

        # The number of attempts at these is limited for an address, so one variant has to do.
        guessed = {"/login", "/settings/password", "/device", "/device/decide"}
        rows = [(variant, form) for variant in variants for form in _forms() if form not in guessed]
        assert_held([*rows, *(("no token", form) for form in sorted(guessed))], got_through)

        def got_through_call(row: tuple[str, int]) -> object:
            method, path, body = calls[row[1]]
            answer = browser.request(method, path, json=body, headers=variants[row[0]])
            return answer.status_code != 403 and (answer.status_code, answer.text)

        assert_held([(variant, call) for variant in variants for call in range(len(calls))], got_through_call)
        # A form that needs no preflight is not JSON.
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
            sent = browser.post(
                "/api/v3/hooks", content=json.dumps(calls[4][2]),
                headers={"Content-Type": kind, "X-CSRFToken": own},
            )  # fmt: skip
            assert sent.status_code in {400, 403, 415}, kind
    assert scene.ann.show(scene.run)["state"] == "SUCCESS"


def test_reading_changes_nothing(scene: Scene) -> None:
    """Changes require a method that a link or an image of another site cannot use."""
    with scene.ann.browser() as browser:
        changing = [
            form for form in _forms() if re.search("delete|revoke|cancel|issue|create|secret|test", form)
        ]
        assert len(changing) > 5

        def got_through(form: str) -> object:
            answer = browser.get(form.format(app=scene.app, run=scene.run))
            return answer.status_code not in {404, 405} and answer.status_code

        assert_held(changing, got_through)


def test_cookies_are_for_this_instance_alone(scene: Scene) -> None:
    with scene.instance.client() as client:
        page = client.get("/login")
        set_cookies = page.headers.get_list("Set-Cookie")
        answer = client.post(
            "/login", data={"username": scene.tom.name, "password": scene.tom.password, **csrf(client)},
            headers={"Referer": f"{scene.instance.url}/login"},
        )  # fmt: skip
        assert answer.status_code == 302
        set_cookies += answer.headers.get_list("Set-Cookie")
        session = next(cookie for cookie in set_cookies if cookie.startswith("sessionid="))
        assert "HttpOnly" in session
        for cookie in set_cookies:
            assert "Secure" in cookie
            assert "SameSite=Lax" in cookie or "SameSite=Strict" in cookie
            assert "Domain=" not in cookie


@pytest.fixture
def session(scene: Scene) -> Iterator[httpx.Client]:
    """A session of tom's own for this test."""
    with scene.instance.client() as client:
        client.headers["Referer"] = f"{scene.instance.url}/"
        client.get("/login")
        fields = {"username": scene.tom.name, "password": scene.tom.password}
        assert client.post("/login", data={**fields, **csrf(client)}).status_code == 302
        yield client


def test_a_session_ends_with_the_logout_and_is_made_by_the_login(scene: Scene, session: httpx.Client) -> None:
    kept = session.cookies["sessionid"]
    assert session.post("/logout", data=csrf(session)).status_code == 302
    for cookie in (kept, "", "x", "a" * 32, kept[:-1], kept.upper(), f"{kept}\x7f"):
        with scene.instance.client() as client:
            answer = client.get("/api/v3/me", headers={"Cookie": f"sessionid={cookie}"})
            assert answer.status_code == 401, cookie
    # The login replaces a session that an attacker planted.
    with scene.instance.client() as client:
        client.headers["Referer"] = f"{scene.instance.url}/"
        client.cookies.set("sessionid", "planted0planted0planted0planted0", domain="localhost.local")
        client.get("/login")
        fields = {"username": scene.tom.name, "password": scene.tom.password}
        assert client.post("/login", data={**fields, **csrf(client)}).status_code == 302
        assert "planted" not in str(list(client.cookies.jar)[-1].value)


TARGETS = [
    "https://127.0.0.1/", "https://127.1/", "https://0/", "https://2130706433/", "https://0x7f.1/",
    "https://0177.0.0.1/", "https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/", "https://[0:0:0:0:0:ffff:127.0.0.1]/", "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::]/", "https://[fe80::1]/", "https://[fd00::1]/",
    "https://169.254.169.254/latest/meta-data/", "https://10.0.0.1/", "https://172.16.0.1/",
    "https://192.168.0.1/", "https://100.64.0.1/", "https://0.0.0.0/", "https://255.255.255.255/",
    "https://localhost/", "https://localhost./", "https://LOCALHOST/", "https://a.localhost/",
    "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/",
    "unix:///run/docker.sock", "https://user@example.org/", "https://example.org@127.0.0.1/",
    "https://127.0.0.1#@example.org/", "https://127.0.0.1\\@example.org/", "https://example.org:22/",
    "https://example.org:0/", "https://example.org:99999/", "https://example.org:6379/\r\nSET x y",
    "https://example.org/\r\nHost: x", "https://\u0031\u0032\u0037.0.0.1/", "https://\uff11\uff12\uff17.0.0.1/",
    "https://127\u30020\u30020\u30021/", "https://\u2460\u2461\u2466.0.0.1/", "//127.0.0.1/",
    "https:127.0.0.1", "https:///127.0.0.1/", "https://[::1%25lo]/", "https://[v1.1]/", "https://",
    "javascript:alert(1)", " https://127.0.0.1/", "https://127.0.0.1:443/",
]  # fmt: skip


def test_hooks_lead_to_nothing_inside(scene: Scene) -> None:
    """Both as a hook of the user, and as the hook of a single run."""

    def got_through(target: str) -> object:
        with scene.tom.client() as client:
            made = client.post("/api/v3/hooks", json={"target": target, "event": "run.complete"})
            hook = {"target": target, "event": "run.complete", "secret": "s" * 40}
            run = client.post(f"/api/v3/apps/{scene.app}/runs", json={"export": scene.export, "hook": hook})
        return (made.status_code != 400 and made.text) or (run.status_code not in {400, 404} and run.text)

    assert_held(TARGETS, got_through)


BODIES: dict[str, bytes] = {
    "very deep": b'{"a":' * 50_000,
    "a deep list": b"[" * 100_000,
    "a number of 1 MB": b"1" * 1_000_000,
    "an exponent": b'{"export": 1e999999999}',
    "NaN": b'{"export": NaN}',
    "half a surrogate": b'{"title": "\\ud800"}',
    "NUL": b'{"title": "\\u0000"}',
    "no UTF-8": b'{"title": "\xff"}',
    "UTF-16": '{"title": "x"}'.encode("utf-16"),
    "a name twice": b'{"id": "a", "id": "b"}',
    "__proto__": b'{"__proto__": {"admin": true}, "constructor": {}}',
    "100,000 names": json.dumps({str(number): 1 for number in range(100_000)}).encode(),
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "a gzip": b"\x1f\x8b\x08\x00",
}


def test_bodies_that_are_none(scene: Scene) -> None:
    paths = ["/apps", "/hooks", f"/apps/{scene.app}/runs", "/developer"]
    kind = {"Content-Type": "application/json"}
    with scene.tom.client() as client:

        def got_through(row: tuple[str, str]) -> object:
            name, path = row
            answer = client.post(f"/api/v3{path}", content=BODIES[name], headers=kind)
            said = answer.json() if answer.headers["Content-Type"] == "application/json" else {}
            return (answer.status_code not in {400, 403, 413} or "error" not in said) and answer.text

        assert_held([(name, path) for name in BODIES for path in paths], got_through)


def test_users_administer_nothing(scene: Scene) -> None:
    """Pages and forms of the administration, with sessions and tokens of ordinary users."""
    pages = [
        "/admin/", "/admin/access/user/", "/admin/access/user/add/", "/admin/access/user/1/change/",
        "/admin/access/user/1/password/", "/admin/access/accesstag/add/", "/admin/registry/app/",
        "/admin/runs/run/queue/", "/admin/audit/entry/", "/admin/hooks/hook/", "/admin/jsi18n/",
        "/admin/password_change/", "/admin/r/1/1/", "/admin/autocomplete/",
    ]  # fmt: skip

    def got_through(row: tuple[str, str]) -> object:
        name, path = row
        with scene.people[name].browser() as browser:
            for answer in (browser.get(path), browser.post(path, data={**csrf(browser), "username": "x"})):
                there = answer.headers.get("Location", "")
                if answer.status_code not in {403, 404} and not there.startswith("/admin/login/"):
                    return answer.status_code, there, answer.text
        with scene.people[name].client() as client:
            answer = client.get(path)
            return not answer.headers.get("Location", "").startswith("/admin/login/") and answer.text

    assert_held([(name, path) for name in ("otto", "dora", "ann") for path in pages], got_through)


def test_a_request_key_of_another_is_no_way_to_the_run(scene: Scene) -> None:
    """Submitting under the key of another user's run reveals nothing about that run."""
    export = scene.tom.ask("GET", "/exports").json()["exports"][0]["pk"]
    key = str(uuid.uuid4())
    body = {"export": scene.export, "arguments": {"do": "sleep", "seconds": 60}}
    first = scene.ann.ask("PUT", f"/apps/{scene.app}/runs/{key}", expect=202, json=body).json()
    with scene.tom.client() as client:
        second = client.put(f"/api/v3/apps/{scene.app}/runs/{key}", json={**body, "export": export}).json()
    assert scene.run not in str(second)
    assert first["runs"][0]["run_id"] not in str(second)
    for person, runs in ((scene.ann, first), (scene.tom, second)):
        person.ask("POST", f"/runs/{runs['runs'][0]['run_id']}/cancel")
