"""Logging in, and the messages when that fails."""

import json
import re
import stat
import threading
from html import unescape
from urllib.parse import urlsplit

import httpx
import pytest

from tests.client.conftest import Shell, new_shell
from tests.fixtures.instance import Instance

pytestmark = pytest.mark.system


@pytest.fixture
def stranger(instance: Instance) -> Shell:
    """A user with a token, not logged in."""
    return new_shell(instance, "stranger")


def test_login_and_whoami(stranger: Shell):
    stranger.login()
    assert stranger.name in stranger.must("whoami").out
    shown = stranger.must("whoami", "--json").json
    assert shown["url"] == stranger.instance.url
    assert shown["user"]["username"] == stranger.name
    kept = list((stranger.home / "config").rglob("*"))
    assert {stat.S_IMODE(each.stat().st_mode) for each in kept if each.is_file()} == {0o600}


def test_an_untrusted_authority(stranger: Shell):
    done = stranger.run("login", stranger.instance.url, "--token", stranger.token)
    assert done.status == 1
    assert "--ca FILE" in done.err
    assert len(done.err.splitlines()) == 1
    assert not (stranger.home / "config").exists()


def test_a_wrong_token(stranger: Shell):
    done = stranger.run("login", stranger.instance.url, "--ca", str(stranger.instance.ca), "--token", "wrong")
    assert done.status == 1
    assert f"gridapps login {stranger.instance.url}" in done.err
    assert not (stranger.home / "config").exists()


def test_before_login(stranger: Shell):
    done = stranger.run("runs")
    assert (done.status, done.out) == (1, "")
    assert "gridapps login URL" in done.err


def test_the_environment_is_enough(stranger: Shell):
    stranger.variables = {
        "GRIDAPPS_URL": stranger.instance.url,
        "GRIDAPPS_TOKEN": stranger.token,
        "GRIDAPPS_CA": str(stranger.instance.ca),
    }
    assert stranger.must("whoami", "--json").json["user"]["username"] == stranger.name
    assert not (stranger.home / "config").exists()


def test_becoming_a_developer(stranger: Shell):
    stranger.login()
    assert stranger.must("developer", "show", "--json").json["developer"]["state"] == "none"
    asked = stranger.must("developer", "request", "--statement", "ground filters", "--json").json
    assert asked["developer"]["state"] == "requested"
    assert "administrator" in stranger.must("developer", "show").out
    refused = stranger.run("app", "create", "never-made")
    assert refused.status == 1
    assert "developer" in refused.err
    stranger.instance.run_server_command("user", "verify", stranger.name)
    assert "You are a developer" in stranger.must("developer", "show").out


def test_logout(stranger: Shell):
    stranger.login()
    assert "stays valid until it expires" in stranger.must("logout").err
    assert "gridapps login" in stranger.run("whoami").err
    assert stranger.name not in (stranger.home / "config" / "config.json").read_text()
    assert stranger.token not in (stranger.home / "config" / "config.json").read_text()


def test_login_with_a_browser(instance: Instance):
    person = new_shell(instance, "browser")
    password = "correct horse battery staple"
    name = f"{person.name}-pw"
    instance.run_server_command("user", "create", name, "--password-stdin", typed=password)
    process = person.start("login", instance.url, "--ca", str(instance.ca), "--no-browser")
    assert process.stderr is not None
    process.stderr.readline()
    page = process.stderr.readline().strip()
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        _log_in_as_a_browser_does(instance, page, name, password)
        out, err = process.communicate(timeout=60)
    finally:
        timer.cancel()
        process.kill()
    assert process.returncode == 0, err
    assert f"as {name}" in out
    assert person.must("whoami", "--json").json["user"]["username"] == name
    kept = json.loads((person.home / "config" / "config.json").read_text())["instances"][instance.url]
    assert kept["refresh_token"]
    person.must("logout")
    with instance.client(kept["token"]) as client:
        assert client.get("/api/v3/me").status_code == 401, "the token is still good"


def test_login_with_a_code(instance: Instance):
    person = new_shell(instance, "remote")
    password = "correct horse battery staple"
    name = f"{person.name}-pw"
    instance.run_server_command("user", "create", name)
    assert f"{name}  [no password]" in instance.run_server_command("user", "list")
    instance.run_server_command("user", "password", name, "--password-stdin", typed=password)
    assert f"{name}  []" in instance.run_server_command("user", "list")
    process = person.start("login", instance.url, "--ca", str(instance.ca), "--device")
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        assert process.stderr is not None
        shown = re.search(r"Open (\S+) in a browser and enter the code (\S+)", process.stderr.readline())
        assert shown
        with instance.client() as browser:
            browser.headers["Referer"] = instance.url
            form = browser.get(shown[1], follow_redirects=True)
            fields = {**_hidden(form.text), "username": name, "password": password}
            entry = browser.post(form.url, data=fields, follow_redirects=True)
            asked = browser.post("/device", data={**_hidden(entry.text), "code": shown[2]})
            decided = browser.post("/device/decide", data={**_hidden(asked.text), "allow": "on"})
            assert "is logged in" in decided.text
        out, err = process.communicate(timeout=60)
    finally:
        timer.cancel()
        process.kill()
    assert process.returncode == 0, err
    assert f"as {name}" in out
    kept = json.loads((person.home / "config" / "config.json").read_text())["instances"][instance.url]
    assert kept["refresh_token"]


def _log_in_as_a_browser_does(instance: Instance, page: str, name: str, password: str) -> None:
    with instance.client() as browser:
        browser.headers["Referer"] = instance.url
        form = browser.get(page, follow_redirects=True)
        assert form.status_code == 200, form.text
        fields = {**_hidden(form.text), "username": name, "password": password}
        consent = browser.post(form.url, data=fields, follow_redirects=True)
        assert consent.status_code == 200, consent.text
        answer = browser.post(consent.url, data={**_hidden(consent.text), "allow": "Authorize"})
        assert answer.status_code == 302, answer.text
    back = answer.headers["Location"]
    assert urlsplit(back).hostname == "127.0.0.1"
    assert httpx.get(back, trust_env=False).status_code == 200


def _hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's form."""
    found = {}
    for tag in re.findall(r"<input[^>]*>", page):
        values = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if values.get("type") == "hidden":
            found[values["name"]] = unescape(values.get("value", ""))
    return found


def test_nothing_listens(stranger: Shell):
    done = stranger.run("whoami", "--instance", "https://127.0.0.1:9")
    assert done.status == 1
    assert "is the instance running?" in done.err
    assert len(done.err.splitlines()) == 1
