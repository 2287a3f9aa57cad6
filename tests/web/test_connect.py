"""The page Connect: passwords, personal tokens, the authority, the client."""

import hashlib
import re
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken

from gridapps.access import operations, personal_tokens
from gridapps.access.errors import InvalidToken, InvalidUser
from gridapps.access.models import PersonalToken, User
from gridapps.audit.models import Entry
from gridapps.pki.authority import Authority
from gridapps.web import client_wheel
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
HEADERS = {"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"}
OLD, NEW = "correct horse battery", "staple of another horse"


@pytest.fixture(autouse=True)
def authority() -> Authority:
    return Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)


def browser(user: User | None = None) -> Client:
    client = Client(headers=HEADERS)
    if user:
        client.force_login(user)
    return client


@pytest.fixture
def ann(db: None) -> User:
    return operations.create_user(by=None, username="ann", password=OLD)


def logged_in(password: str) -> Client | None:
    client = browser()
    done = client.post("/login", {"username": "ann", "password": password})
    return client if done.status_code == 302 else None


def whoami(token: str) -> int:
    return Client(headers=HEADERS | {"Authorization": f"Bearer {token}"}).get("/api/v3/me").status_code


def change(client: Client, old: str = OLD, new: str = NEW, again: str | None = None) -> str:
    form = {"old": old, "new": new, "again": new if again is None else again}
    answer = client.post("/settings/password", form, follow=True)
    return answer.content.decode()


def test_a_user_changes_the_password(ann: User) -> None:
    here, elsewhere = logged_in(OLD), logged_in(OLD)
    assert here
    assert elsewhere
    assert "Your password has been changed" in change(here)
    assert here.get("/").status_code == 200, "this session goes on"
    assert elsewhere.get("/").status_code == 302, "other sessions end"
    assert logged_in(OLD) is None
    assert logged_in(NEW)
    assert Entry.objects.filter(event="user.password-changed", actor=f"user:{ann.pk}").exists()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"old": "wrong"}, "This is not your present password."),
        ({"new": "12345"}, "too short"),
        ({"new": "ann"}, "too similar"),
        ({"again": "different"}, "The two new passwords differ."),
        ({"new": ""}, "This field is required."),
    ],
)
def test_password_changes_that_are_refused(ann: User, form: dict[str, str], said: str) -> None:
    client = browser(ann)
    page = change(client, **form)
    assert said in page
    assert "staple" not in page
    assert logged_in(OLD)
    failed = Entry.objects.filter(event="user.login-failed").exists()
    assert failed == ("old" in form)


def test_a_token_is_shown_once_and_revoked(ann: User) -> None:
    client = browser(ann)
    form = {"name": "nightly job", "days": "7", "scopes": ["runs:read", "exports"]}
    answer = client.post("/settings/tokens", form)
    assert answer["Cache-Control"] == "no-store"
    shown = re.search(r'<pre id="token"[^>]*>([^<]+)</pre>', answer.content.decode())
    assert shown
    token = shown[1]
    assert whoami(token) == 200
    row = AccessToken.objects.get(user=ann)
    assert row.scope == "runs:read exports"
    assert timedelta(days=6) < row.expires - timezone.now() <= timedelta(days=7)
    assert token not in str(AccessToken.objects.values().get()), "only its hash is stored"
    page = client.get("/connect").content.decode()
    assert "nightly job" in page
    assert token not in page
    assert client.post(f"/settings/tokens/{row.pk}/revoke").status_code == 302
    assert whoami(token) == 401
    assert not PersonalToken.objects.exists()
    events = Entry.objects.filter(subject=f"user:{ann.pk}").values_list("event", flat=True)
    assert {"token.issued", "token.revoked"} <= set(events)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": " "}, "required"),
        ({"name": "a\tb"}, "one line"),
        ({"days": "0"}, "greater than or equal to 1"),
        ({"days": "367"}, "less than or equal to 366"),
        ({"days": "x"}, "whole number"),
        ({"scopes": []}, "required"),
        ({"scopes": ["admin"]}, "not one of the available choices"),
        ({"scopes": ["root"]}, "not one of the available choices"),
    ],
)
def test_tokens_that_are_not_made(ann: User, form: dict[str, object], said: str) -> None:
    answer = browser(ann).post("/settings/tokens", {"name": "n", "days": "7", "scopes": ["api"]} | form)
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert not AccessToken.objects.exists()


def test_only_administrators_make_tokens_that_administer(cast: Cast) -> None:
    form = {"name": "n", "days": "7", "scopes": ["admin"]}
    assert browser(cast.administrator).post("/settings/tokens", form).status_code == 200
    with pytest.raises(InvalidToken, match="Only administrators"):
        personal_tokens.create(by=cast.analyst, name="n", days=1, scopes=["admin"])


def test_a_limit_of_tokens(ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personal_tokens, "MAX_TOKENS", 1)
    form = {"name": "n", "days": "7", "scopes": ["api"]}
    assert browser(ann).post("/settings/tokens", form).status_code == 200
    assert b"revoke one first" in browser(ann).post("/settings/tokens", form).content


def test_tokens_of_others_are_not_seen_or_revoked(ann: User, cast: Cast) -> None:
    token = operations.issue_token(by=None, user=ann, lifetime=timedelta(days=1))
    row = AccessToken.objects.get(user=ann)
    assert b"made by the operator" in browser(ann).get("/connect").content
    other = browser(cast.outsider)
    assert b"made by the operator" not in other.get("/connect").content
    for key in (row.pk, 2**63, 10**30):
        assert other.post(f"/settings/tokens/{key}/revoke").status_code == 404
    assert whoami(token) == 200


def test_the_page_and_its_forms_need_a_login(db: None) -> None:
    stranger = browser()
    assert stranger.get("/connect")["Location"].startswith("/login")
    for path in ("/settings/password", "/settings/tokens", "/settings/tokens/1/revoke"):
        assert stranger.post(path)["Location"].startswith("/login")


def test_the_authority_and_its_checksums(ann: User, authority: Authority) -> None:
    answer = browser().get("/connect/ca.crt")
    assert answer.content.decode() == authority.ca_pem
    page = browser(ann).get("/connect").content.decode()
    assert hashlib.sha256(answer.content).hexdigest() in page
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, input=answer.content, capture_output=True, check=True).stdout.decode()
    assert printed.strip().partition("=")[2] in page


def test_the_client_is_served_as_a_wheel_that_installs(ann: User, tmp_path: Path) -> None:
    page = browser(ann).get("/connect").content.decode()
    path = re.search(r'href="(/connect/(gridapps_client-[^"]+\.whl))"', page)
    assert path
    content = browser().get(path[1]).content
    assert hashlib.sha256(content).hexdigest() in page
    client_wheel.wheel.cache_clear()
    assert browser().get(path[1]).content == content, "the same bytes each time"
    (tmp_path / path[2]).write_bytes(content)
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    done = subprocess.run([*pip, str(tmp_path / path[2])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = "import gridapps_client, sys; print(gridapps_client.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(target))
    assert (target / "bin" / "gridapps").exists()
    with zipfile.ZipFile(tmp_path / path[2]) as archive:
        assert not [name for name in archive.namelist() if "test" in name or "pycache" in name]
    assert browser().get("/connect/other.whl").status_code == 404


def test_the_operator_sets_passwords_and_lists_users(ann: User) -> None:
    from gridapps.access.queries import listed

    operations.change_password(by=None, user=ann, password=NEW)
    assert logged_in(NEW)
    (line,) = [line for line in listed() if line.startswith("ann ")]
    assert re.fullmatch(r"ann  \[\]  tags: -  last login: \d{4}-\d\d-\d\d", line)
    User.objects.filter(pk=ann.pk).update(is_active=False)
    ann.refresh_from_db()
    with pytest.raises(InvalidUser, match="not active"):
        operations.change_password(by=None, user=ann, password=OLD)
