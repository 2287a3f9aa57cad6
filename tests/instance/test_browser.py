"""A real browser against a whole instance: login, certificate, consent for the command, the page of a run."""

import base64
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.tiers import CHANGES_INTERFACES
from tests.instance.conftest import Stage

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PASSING = re.compile(r"status of 50[23]|net::ERR_")  # of an instance that restarts
PASSWORD = secrets.token_urlsafe(12)

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group(CHANGES_INTERFACES),  # a browser gives up its requests when interfaces change
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: scripts/machine test"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    """A page of a developer who has logged in. Fails the test for whatever the content policy blocked."""
    program = (
        "import django; django.setup()\n"
        "from gridapps.access.models import User\n"
        f"user = User.objects.get(username={stage.developer.name!r})\n"
        f"user.set_password({PASSWORD!r}); user.save()"
    )
    environment = stage.instance.environment | {"DJANGO_SETTINGS_MODULE": "gridapps.config.settings"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=300)
    context = browser.new_context(base_url=stage.instance.url, ignore_https_errors=True)
    opened = context.new_page()
    complaints: list[str] = []
    ours = stage.instance.url
    opened.on(
        "console",
        lambda said: (
            complaints.append(f"{said.location['url']}: {said.text}")
            if said.type == "error"
            and said.location["url"].startswith(ours)
            and not PASSING.search(said.text)
            else None
        ),
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto("/settings")
    opened.get_by_label("Username").fill(stage.developer.name)
    opened.get_by_label("Password").fill(PASSWORD)
    opened.get_by_role("button", name="Log in").click()
    expect(opened.get_by_role("heading", name="Application settings")).to_be_visible()
    yield opened
    context.close()
    assert complaints == [], stage.instance.tail()


def test_a_certificate_from_the_settings_page(page: Page) -> None:
    page.get_by_text("New certificate").click()
    page.locator("#id_name").fill("from the browser")
    page.get_by_role("button", name="Issue").click()
    expect(page.locator("#key")).to_contain_text("PRIVATE KEY")
    with page.expect_download() as download:
        page.get_by_role("link", name="certs.d.tar.gz").click()
    assert download.value.path().read_bytes().startswith(b"\x1f\x8b")
    page.get_by_role("link", name="Back to the settings").click()
    row = page.get_by_role("row", name="from the browser")
    expect(row).to_contain_text("valid")
    row.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("row", name="from the browser")).to_contain_text("revoked")


def test_the_command_gets_a_token_through_the_consent_page(page: Page, stage: Stage) -> None:
    verifier = secrets.token_urlsafe(64)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        redirect = f"http://127.0.0.1:{listener.getsockname()[1]}/callback"
        requests: list[str] = []
        thread = threading.Thread(target=_answer_once, args=(listener, requests))
        thread.start()
        query = {
            "response_type": "code", "client_id": "gridapps-cli", "redirect_uri": redirect, "scope": "api",
            "state": "s", "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        page.goto(f"/api/authorize?{urlencode(query)}")
        expect(page.get_by_role("heading", name="Allow gridapps command?")).to_be_visible()
        page.get_by_role("button", name="Allow").click()
        page.wait_for_url(f"{redirect}?*")
        thread.join()
    given = parse_qs(urlsplit(requests[0].split()[1]).query)
    assert given["state"] == ["s"]
    with stage.instance.client() as client:
        answer = client.post(
            "/api/token",
            data={
                "grant_type": "authorization_code", "code": given["code"][0], "redirect_uri": redirect,
                "client_id": "gridapps-cli", "code_verifier": verifier,
            },
        )  # fmt: skip
    with stage.instance.client(answer.json()["access_token"]) as client:
        assert client.get("/api/v3/me").json()["user"]["username"] == stage.developer.name


def test_files_are_uploaded_from_the_page_of_exports(page: Page, stage: Stage) -> None:
    """One part is refused by a server that is away, so it is sent again."""
    file = write_pointcloud(stage.developer.home / "browser.laz", points=700)
    bad = stage.developer.home / "bad.laz"
    bad.write_bytes(b"x" * 100)
    failures = ["first"]

    def away(route: Route) -> None:
        if route.request.method == "PATCH" and failures:
            failures.pop()
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v3/uploads/*/files/*", away)
    page.goto("/exports")
    page.get_by_label("Name", exact=True).last.fill("From the browser")
    page.get_by_label("LAS and LAZ files").set_input_files([file, bad])
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("#upload-status")).to_contain_text(
        "bad.laz: This is not a LAS or LAZ file", timeout=60_000
    )
    assert failures == []
    page.get_by_label("Leave out files that are refused").check()
    page.get_by_role("button", name="Upload").click()
    row = page.get_by_role("row", name="From the browser").first
    expect(page.locator("tr[data-export]").first).to_contain_text("From the browser", timeout=60_000)
    row.get_by_text("Rename or delete").click()
    row.get_by_role("button", name="Delete the export").click()
    expect(page.get_by_text("was deleted.")).to_be_visible()


def _answer_once(listener: socket.socket, requests: list[str]) -> None:
    connection, _ = listener.accept()
    with connection:
        requests.append(connection.recv(65536).decode())
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>Thanks."
        )


def test_the_page_of_a_run_follows_it_to_its_end(page: Page, stage: Stage) -> None:
    run = stage.submit("summary")
    page.goto(f"/runs/{run}")
    expect(page.locator("#state")).to_have_text("SUCCESS", timeout=60_000)
    expect(page.locator("#log")).to_contain_text("begin summary")
    expect(page.locator("#log")).to_contain_text("end")
    with page.expect_download() as download:
        page.get_by_role("link", name="numbers.txt").click()
    assert download.value.path().read_text().startswith("1\n2\n")
    page.goto("/")
    expect(page.get_by_role("row", name=run[:8])).to_contain_text("SUCCESS")


def test_the_log_of_a_run_goes_on_after_an_error_and_a_restart(page: Page, stage: Stage) -> None:
    """A browser gives up an event stream that was answered with 503: the page has to ask again."""
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503, body="{}") if len(refused) == 1 else route.continue_()

    page.route("**/log?follow=1*", refuse_once)
    run = stage.submit("sleep", seconds=100)
    stage.developer.wait_for_progress(run)
    page.goto(f"/runs/{run}")
    log = page.locator("#log")
    expect(log).to_contain_text("begin sleep", timeout=60_000)
    assert len(refused) == 2
    page.unroute_all()
    log.evaluate("log => log.append('kept')")  # only an event that begins anew would remove it
    with page.expect_response(
        lambda answer: "/log?follow=1" in answer.url and answer.status == 200, timeout=60_000
    ) as again:
        for part in ("application", "application-2"):
            os.kill(stage.instance.part(part), signal.SIGKILL)
    sent = again.value.request.all_headers().get("last-event-id") or again.value.url
    assert re.search(r"0(\.|%2E)1(:|%3A)[0-9]+$", sent), sent
    expect(log).to_contain_text("kept")
    assert log.inner_text().count("begin sleep") == 1
    stage.developer.ask("POST", f"/runs/{run}/cancel")
    expect(page.locator("#state")).to_have_text("CANCELED", timeout=60_000)
    expect(log).to_contain_text("begin sleep")  # the page loads itself again at the end
    assert log.inner_text().count("begin sleep") == 1


def test_a_run_is_canceled_from_its_page(page: Page, stage: Stage) -> None:
    page.goto(f"/runs/{stage.submit('sleep', seconds=100)}")
    expect(page.locator("#state")).to_have_text("RUNNING", timeout=60_000)
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#state")).to_have_text("CANCELED", timeout=60_000)


# The elements that reach beyond the screen, if the page can be scrolled sideways.
WIDE = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.querySelectorAll("main *")].filter(
        (each) => each.getBoundingClientRect().right > width && !each.closest(".wide"));
    return ["page", ...wide.map((each) => each.outerHTML.slice(0, 80))];
}"""
AXE = files("axe_playwright_python") / "axe.min.js"


def _faults(page: Page, path: str) -> list[str]:
    """What axe-core finds on a page, and whether the page is wider than the screen."""
    page.goto(path)
    for details in page.locator("main details").all():
        details.evaluate("element => { element.open = true }")
    page.evaluate(AXE.read_text())
    return [f"{path}: {fault}" for fault in _found(page)]


def _found(page: Page) -> list[str]:
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    faults = [f"{each['id']}: {node['target']}" for each in found["violations"] for node in each["nodes"]]
    wide = page.evaluate(WIDE)
    return [*faults, *(f"wider than the screen: {each}" for each in wide)]


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_accessible(page: Page, stage: Stage, width: int) -> None:
    run = stage.submit("summary")
    page.set_viewport_size({"width": width, "height": 800})
    paths = [
        "/", "/settings", "/settings/hooks", "/connect", "/device", f"/runs/{run}", f"/apps/{stage.app}",
        "/exports",
    ]  # fmt: skip
    assert [fault for path in paths for fault in _faults(page, path)] == []
    # The check itself finds a fault.
    page.evaluate(
        "() => { const bad = document.createElement('input'); bad.style.width = '3000px';"
        " document.querySelector('main').append(bad) }"
    )
    assert {fault.partition(":")[0] for fault in _found(page)} == {"label", "wider than the screen"}
