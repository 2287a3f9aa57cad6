"""A real browser against a whole instance: login, certificate, consent for the command, the page of a run."""

import base64
import hashlib
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.fixtures.browser import IN_A_BROWSER, faults, faults_here, logged_in, run_program
from tests.fixtures.pointclouds import write_pointcloud
from tests.instance.conftest import Stage

pytestmark = [pytest.mark.system, *IN_A_BROWSER]


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    """A page of a developer who has logged in."""
    with logged_in(browser, stage.instance, stage.developer.name) as opened:
        yield opened


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


MANY_TASKS = """
from datetime import timedelta
from uuid import uuid4
from django.utils import timezone
from gridapps.runs.models import Run, Task
first = Run.objects.get(pk={run!r})
now = timezone.now()
task = first.tasks.get()
run = Run.objects.create(
    owner=first.owner, release=first.release, export=first.export, arguments={{}}, cpus=1, memory=1,
    disk=1, time=1, state="RUNNING", started_at=now,
)
Task.objects.bulk_create(
    Task(
        run=run, owner=first.owner, index=index, exportfile=task.exportfile, state="RUNNING", queued_at=now,
        started_at=now, attempt=1, node="elsewhere", token=uuid4(), lease_until=now + timedelta(days=1),
    )
    for index in range(250)
)
print(run.pk)
"""
AN_END = """
from django.utils import timezone
from gridapps.runs.models import Run, Task
ended = dict(state="CANCELED", ended_at=timezone.now(), token=None, lease_until=None)
run = Run.objects.get(pk={run!r})
run.tasks.filter(index__in={indexes}).update(**ended)
run.version += 1
if not run.tasks.filter(state="RUNNING").exists():
    run.state, run.ended_at = "CANCELED", timezone.now()
run.save()
"""


def test_the_page_of_a_run_of_many_tasks_stays_up_to_date(page: Page, stage: Stage) -> None:
    program = MANY_TASKS.format(run=stage.submit("summary"))
    run = run_program(stage.instance, program).strip()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/runs/{run}?tasks=2")
    row = page.locator("tr[data-task='150']")
    expect(row.locator(".state")).to_have_text("RUNNING")
    expect(page.locator("tr[data-task]")).to_have_count(100)
    while not any("wait=" in url for url in asked):
        page.wait_for_timeout(100)
    run_program(stage.instance, AN_END.format(run=run, indexes=[150]))
    expect(row.locator(".state")).to_have_text("CANCELED", timeout=60_000)
    expect(page.locator("#task-counts")).to_contain_text("1 CANCELED")
    assert any("tasks=100-199" in url for url in asked)
    run_program(stage.instance, AN_END.format(run=run, indexes=list(range(250))))
    expect(page.locator("#state")).to_have_text("CANCELED", timeout=60_000)
    expect(page.locator("tr[data-task='199'] .state")).to_have_text("CANCELED", timeout=60_000)


def test_a_run_is_canceled_from_its_page(page: Page, stage: Stage) -> None:
    page.goto(f"/runs/{stage.submit('sleep', seconds=100)}")
    expect(page.locator("#state")).to_have_text("RUNNING", timeout=60_000)
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.locator("#state")).to_have_text("CANCELED", timeout=60_000)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_pages_are_accessible(page: Page, stage: Stage, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    run = stage.submit("summary")
    page.set_viewport_size({"width": width, "height": 800})
    paths = [
        "/", "/settings", "/settings/hooks", "/connect", "/device", f"/runs/{run}", f"/apps/{stage.app}",
        "/exports",
    ]  # fmt: skip
    assert [fault for path in paths for fault in faults(page, path)] == []
    # The check itself finds a fault.
    page.evaluate(
        "() => { const bad = document.createElement('input'); bad.style.width = '3000px';"
        " document.querySelector('main').append(bad) }"
    )
    assert {fault.partition(":")[0] for fault in faults_here(page)} == {"label", "wider than the screen"}
