"""An OAuth application that an attacker has registered, or a page that abuses another user's application."""

import base64
import hashlib
import itertools
import re
import secrets
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.attacks.scene import Scene, Victim, csrf
from tests.attacks.tries import assert_held

CALLBACK = "https://client.example/cb"
LOOPBACK = "http://127.0.0.1/cb"
ADDRESSES = itertools.count()


@dataclass(frozen=True)
class Client:
    """A registered application."""

    id: str
    secret: str


def register(
    person: Victim, kind: str, redirects: str = f"{CALLBACK} {LOOPBACK}", scopes: tuple[str, ...] = ("api",)
) -> Client:
    """Register an application on the settings page."""
    with person.browser() as browser:
        page = submit(
            browser,
            app_name=f"app {secrets.token_hex(4)}",
            kind=kind,
            redirect_uris=redirects,
            scopes=list(scopes),
        )
    found = re.search(r'id="client-id">([^<]+)<', page.text)
    assert found, page.text[-2000:]
    secret = re.search(r'id="client-secret">([^<]+)<', page.text)
    return Client(found[1], secret[1] if secret else "")


def submit(browser: httpx.Client, **fields: object) -> httpx.Response:
    """Send the form that registers an application; return the page that it leads to."""
    page = browser.post("/settings/applications", data={**fields, **csrf(browser)})
    assert page.status_code in {200, 400}, page.text
    return page


@pytest.fixture(scope="module")
def public(scene: Scene) -> Client:
    """erik's program for desktops, which users may allow."""
    return register(scene.erik, "public")


@pytest.fixture(scope="module")
def confidential(scene: Scene) -> Client:
    return register(scene.erik, "confidential")


def pair() -> tuple[str, str]:
    """A PKCE verifier and its challenge."""
    verifier = secrets.token_urlsafe(48)
    return verifier, base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def question(client: Client, **changes: str | None) -> str:
    """The address that an application sends a user to. A change to None leaves a parameter out."""
    asked: dict[str, str | None] = {
        "response_type": "code",
        "client_id": client.id,
        "redirect_uri": CALLBACK,
        "code_challenge": pair()[1],
        "code_challenge_method": "S256",
        "state": "s",
        "scope": "api",
        **changes,
    }
    return "/api/authorize?" + urlencode({name: value for name, value in asked.items() if value is not None})


def allow(browser: httpx.Client, address: str, **changes: str) -> httpx.Response:
    """Open the page that asks, and allow."""
    page = browser.get(address)
    if page.status_code != 200:
        return page
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)"(?: value="([^"]*)")?', page.text))
    data = {**{name: value.replace("&amp;", "&") for name, value in fields.items()}, "allow": "on", **changes}
    return browser.post(address, data=data)


def code_of(answer: httpx.Response) -> str:
    assert answer.status_code == 302, answer.text[:500]
    found = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert "code" in found, answer.headers["Location"]
    return found["code"][0]


def exchange(scene: Scene, client: Client, **fields: str) -> httpx.Response:
    """Ask for a token, each time from another address, because attempts are limited for each address."""
    address = f"127.0.1.{1 + next(ADDRESSES) % 250}"
    transport = httpx.HTTPTransport(verify=scene.wire().context(), local_address=address)
    with httpx.Client(base_url=scene.instance.url, transport=transport, trust_env=False) as http:
        secret = {"client_secret": client.secret} if client.secret else {}
        return http.post("/api/token", data={"client_id": client.id, **secret, **fields})


REDIRECTS = [
    "https://evil.example/cb",
    "https://client.example/cb/",
    "https://client.example/cb/../evil",
    "https://client.example/cb/%2e%2e/evil",
    "https://client.example/cb%2f..%2fevil",
    "https://client.example/cb;evil",
    "https://client.example/cb?next=https://evil.example",
    "https://client.example/cb#evil",
    "https://client.example/CB",
    "https://client.example/cb%00",
    "https://client.example/cb\n",
    "https://client.example/cb ",
    " https://client.example/cb",
    "https://client.example/",
    "https://client.example",
    "https://client.example:8443/cb",
    "https://client.example:443/cb",
    "https://client.example.evil.example/cb",
    "https://client.example@evil.example/cb",
    "https://evil.example@client.example/cb",
    "https://evil.example#@client.example/cb",
    "https://evil.example\\@client.example/cb",
    "https://evil.example?https://client.example/cb",
    "https://xclient.example/cb",
    "https://client.example\u3002evil.example/cb",
    "http://client.example/cb",
    "//client.example/cb",
    "javascript:alert(1)//client.example/cb",
    "data:text/html,x",
    "custom://client.example/cb",
    "http://localhost/cb",
    "http://127.0.0.2/cb",
    "http://[::1]/cb",
    "http://127.0.0.1.evil.example/cb",
    "http://127.0.0.1@evil.example/cb",
    "http://127.1/cb",
    "http://127.0.0.1/cb/evil",
    "http://2130706433/cb",
    "https://127.0.0.1/cb",
    "",
]


def test_no_code_goes_to_another_address(scene: Scene, public: Client) -> None:
    with scene.ann.browser() as browser:

        def got_through(redirect: str) -> object:
            for address in (
                question(public, redirect_uri=redirect),
                f"{question(public)}&{urlencode({'redirect_uri': redirect})}",
            ):
                answer = allow(browser, address)
                there = answer.headers.get("Location", "")
                if answer.status_code == 302 and not there.startswith(f"{CALLBACK}?"):
                    return there
                if answer.status_code == 200 and "cannot be allowed" not in answer.text:
                    return answer.text[-800:]
            return None

        assert_held(REDIRECTS, got_through)
        # The form's hidden fields do not change that.
        page = allow(browser, question(public), redirect_uri="https://evil.example/cb")
        assert not page.is_redirect or page.headers["Location"].startswith(CALLBACK), page.headers


def test_a_port_of_the_loopback_is_the_programs_to_choose(scene: Scene, public: Client) -> None:
    """RFC 8252. The table above relies on it; nothing else in the address may differ."""
    with scene.ann.browser() as browser:
        answer = allow(browser, question(public, redirect_uri="http://127.0.0.1:49152/cb"))
    assert answer.headers["Location"].startswith("http://127.0.0.1:49152/cb?code=")


QUESTIONS: dict[str, dict[str, str | None]] = {
    "implicit": {"response_type": "token"},
    "hybrid": {"response_type": "code token"},
    "hybrid with an id": {"response_type": "code id_token"},
    "none": {"response_type": "none"},
    "no type": {"response_type": None},
    "no PKCE": {"code_challenge": None, "code_challenge_method": None},
    "plain PKCE": {"code_challenge_method": "plain"},
    "PKCE without a method, which means plain": {"code_challenge_method": None},
    "unknown method": {"code_challenge_method": "S512"},
    "administrator's scope": {"scope": "admin"},
    "more scopes": {"scope": "api admin"},
    "unknown scope": {"scope": "root"},
    "scope of a wildcard": {"scope": "*"},
    "no such client": {"client_id": "x"},
    "two clients": {"client_id": "x,y"},
    "a NUL in the client": {"client_id": "\0"},
}


def test_questions_that_are_not_asked(scene: Scene, public: Client) -> None:
    with scene.ann.browser() as browser:

        def got_through(changes: dict[str, str | None]) -> object:
            answer = allow(browser, question(public, **changes))
            there = answer.headers.get("Location", "")
            granted = "code=" in there or "token=" in there
            wrong = answer.status_code >= 500 or answer.status_code == 200
            return (granted or (wrong and "cannot be allowed" not in answer.text)) and (answer, there)

        assert_held(QUESTIONS, got_through)


def test_nothing_is_allowed_without_the_user(scene: Scene, public: Client) -> None:
    """The user is asked each time, after the login, not in a frame, and not by a form of another site."""
    with scene.ann.browser() as browser:
        assert allow(browser, question(public)).is_redirect
        for more in ("", "&approval_prompt=auto", "&prompt=none", "&approval_prompt=auto_force"):
            again = browser.get(question(public) + more)
            assert "code=" not in again.headers.get("Location", ""), more
        page = browser.get(question(public))
        assert page.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"
        fields = {"allow": "on", "client_id": public.id, "redirect_uri": CALLBACK, "response_type": "code"}
        for headers in (
            {"Referer": ""},
            {"Referer": "https://evil.example/"},
            {"Origin": "https://evil.example"},
        ):
            forged = browser.post(question(public), data=fields, headers=headers)
            assert forged.status_code == 403, headers
            token = {**fields, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            forged = browser.post(question(public), data=token, headers=headers)
            assert forged.status_code == 403, headers
    with scene.instance.client() as nobody:
        answer = nobody.get(question(public))
        assert answer.headers["Location"].startswith("/login?next=")


def grant(scene: Scene, client: Client, person: Victim, redirect: str = CALLBACK) -> tuple[str, str]:
    """A code that a person allowed, and its verifier."""
    verifier, challenge = pair()
    with person.browser() as browser:
        code = code_of(allow(browser, question(client, code_challenge=challenge, redirect_uri=redirect)))
    return code, verifier


def test_a_code_is_worth_nothing_to_others(scene: Scene, public: Client, confidential: Client) -> None:
    code, verifier = grant(scene, public, scene.ann)
    good = {
        "grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": CALLBACK
    }  # fmt: skip
    other = pair()[0]
    tries: dict[str, tuple[Client, dict[str, str]]] = {
        "by another client": (confidential, good),
        "without a verifier": (public, {**good, "code_verifier": ""}),
        "with another verifier": (public, {**good, "code_verifier": other}),
        "with the challenge as the verifier": (
            public,
            {**good, "code_verifier": hashlib.sha256(verifier.encode()).hexdigest()},
        ),
        "to another address": (public, {**good, "redirect_uri": LOOPBACK}),
        "without an address": (public, {**good, "redirect_uri": ""}),
        "as a refresh token": (public, {"grant_type": "refresh_token", "refresh_token": code}),
        "as a device code": (
            public, {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": code},
        ),
        "a client without its secret": (Client(confidential.id, ""), good),
        "a client with a wrong secret": (Client(confidential.id, "x"), good),
        "another code": (public, {**good, "code": code[:-1]}),
        "no code": (public, {**good, "code": ""}),
        "a code that is SQL": (public, {**good, "code": "' OR 1=1 --"}),
    }  # fmt: skip

    def got_through(row: tuple[Client, dict[str, str]]) -> object:
        client, fields = row
        answer = exchange(scene, client, **fields)
        return (answer.status_code >= 500 or "access_token" in answer.text) and answer.text

    assert_held(tries, got_through)
    assert exchange(scene, public, **good).status_code == 200, "none of that has used it up"
    assert exchange(scene, public, **good).status_code in {400, 401}, "it is good once"


def test_a_code_without_a_challenge_is_worth_nothing(scene: Scene, public: Client) -> None:
    """If one is issued at all, it cannot be exchanged for a token."""
    with scene.ann.browser() as browser:
        answer = allow(browser, question(public, code_challenge=""))
        if "code=" in answer.headers.get("Location", ""):
            for verifier in ({}, {"code_verifier": ""}, {"code_verifier": "a" * 43}):
                fields = {"code": code_of(answer), "redirect_uri": CALLBACK, **verifier}
                exchanged = exchange(scene, public, grant_type="authorization_code", **fields)
                assert "access_token" not in exchanged.text, verifier


def test_passwords_and_machines_get_no_more(scene: Scene, public: Client, confidential: Client) -> None:
    ann = {"username": scene.ann.name, "password": scene.ann.password}
    tries: dict[str, tuple[Client, dict[str, str]]] = {
        "password grant": (confidential, {"grant_type": "password", **ann}),
        "password grant of a public client": (public, {"grant_type": "password", **ann}),
        "client credentials of one that asks users": (confidential, {"grant_type": "client_credentials"}),
        "client credentials of a public one": (public, {"grant_type": "client_credentials"}),
        "no grant": (confidential, {}),
        "an assertion": (
            confidential,
            {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "a.b.c"},
        ),
        "a token exchange": (
            confidential,
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": scene.ann.token,
                "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            },
        ),
    }

    def got_through(row: tuple[Client, dict[str, str]]) -> object:
        answer = exchange(scene, row[0], **row[1])
        return ("access_token" in answer.text or answer.status_code >= 500) and answer.text

    assert_held(tries, got_through)


def test_a_machine_acts_as_who_registered_it_and_administers_nothing(scene: Scene) -> None:
    machine = register(scene.otto, "machine", "")
    for scope in ("admin", "api admin"):
        asked = exchange(scene, machine, grant_type="client_credentials", scope=scope)
        assert "access_token" not in asked.text
    token = exchange(scene, machine, grant_type="client_credentials").json()["access_token"]
    with scene.instance.client(token) as client:
        assert client.get("/api/v3/me").json()["user"]["username"] == scene.otto.name
        assert client.get(f"/api/v3/runs/{scene.run}").status_code == 404
        assert client.get("/api/v3/audit").status_code == 403


def test_a_refresh_token_is_good_once_and_in_one_hand(
    scene: Scene, public: Client, confidential: Client
) -> None:
    code, verifier = grant(scene, public, scene.ann)
    first = exchange(
        scene, public, grant_type="authorization_code", code=code, code_verifier=verifier,
        redirect_uri=CALLBACK,
    ).json()  # fmt: skip
    refresh = first["refresh_token"]
    for client, fields in (
        (confidential, {"refresh_token": refresh}),
        (public, {"refresh_token": first["access_token"]}),
        (public, {"refresh_token": refresh, "scope": "api admin"}),
        (public, {"refresh_token": ""}),
    ):
        answer = exchange(scene, client, grant_type="refresh_token", **fields)
        assert "access_token" not in answer.text, fields
    second = exchange(scene, public, grant_type="refresh_token", refresh_token=refresh).json()
    replayed = exchange(scene, public, grant_type="refresh_token", refresh_token=refresh)
    assert replayed.status_code in {400, 401}
    with scene.instance.client(second["access_token"]) as http:
        assert http.get("/api/v3/me").status_code == 401, "a replay ends the whole family"


def test_the_administrators_scope_is_for_administrators(scene: Scene) -> None:
    """Other users cannot register it, and an administrator cannot grant it to another user's application."""
    with scene.otto.browser() as browser:
        page = submit(
            browser, app_name="x", kind="public",
            redirect_uris=CALLBACK, scopes=["api", "admin"],
        )  # fmt: skip
    assert "Only administrators" in page.text
    evil = register(scene.otto, "public")
    with scene.admin.browser() as browser:
        answer = allow(browser, question(evil, scope="api admin"))
        assert "code=" not in answer.headers.get("Location", "")
        verifier, challenge = pair()
        code = code_of(allow(browser, question(evil, scope="api", code_challenge=challenge)))
    token = exchange(
        scene, evil, grant_type="authorization_code", code=code, code_verifier=verifier,
        redirect_uri=CALLBACK,
    ).json()["access_token"]  # fmt: skip
    with scene.instance.client(token) as http:
        assert http.get("/api/v3/audit").status_code == 403
        assert http.get(f"/api/v3/apps/{scene.other_app}").status_code == 404


def test_redirects_that_cannot_be_registered(scene: Scene) -> None:
    rows = [
        "http://client.example/cb", "https://", "https:///cb", "https://user@client.example/cb",
        "https://client.example/cb#x", "https://*.example/cb", "javascript:alert(1)", "data:text/html,x",
        "http://localhost/cb", "http://127.0.0.1.evil.example/cb", "file:///etc/passwd",
        "//client.example/cb", "https://client.example/" + "a" * 600, "https://[::1", "http://0.0.0.0/cb",
        "client.example/cb", "", "https://client.example;script-src%20*/cb",
    ]  # fmt: skip

    def got_through(redirect: str) -> object:
        with scene.otto.browser() as browser:
            page = submit(
                browser, app_name="x", kind="public",
                redirect_uris=redirect, scopes=["api"],
            )  # fmt: skip
        refused = page.status_code == 400 and "redirect address" in page.text
        return (not refused or 'id="client-id"' in page.text) and page.text[-2000:]

    assert_held(rows, got_through)
