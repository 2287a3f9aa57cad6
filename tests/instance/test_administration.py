"""The administration in a real browser: every page, also on a small screen, in the dark, and by keyboard."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fixtures.browser import IN_A_BROWSER, faults, faults_here, logged_in
from tests.instance.conftest import Stage

ROWS = Path(__file__).with_name("administered.py")

pytestmark = [pytest.mark.system, *IN_A_BROWSER]


@pytest.fixture(scope="module")
def administrator(stage: Stage) -> str:
    return stage.person("administrator", administrator=True).name


@pytest.fixture(scope="module")
def paths(stage: Stage, administrator: str) -> list[str]:
    """Of every page, after there is a row of each kind."""
    environment = stage.instance.environment | {"DJANGO_SETTINGS_MODULE": "gridapps.config.settings"}
    done = subprocess.run(
        [sys.executable, str(ROWS), administrator, stage.developer.name, stage.app, stage.export],
        env=environment, check=False, timeout=300, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.fixture
def page(browser: Browser, stage: Stage, administrator: str) -> Iterator[Page]:
    with logged_in(browser, stage.instance, administrator) as opened:
        yield opened


@pytest.mark.timeout(1800)  # 60 pages
def test_pages_of_the_administration_are_accessible(page: Page, paths: list[str]) -> None:
    """Each is loaded once, and looked at on a large screen in the light and on a small one in the dark."""
    found = []
    for path in paths:
        _show_at(page, 1280, "light")
        found += faults(page, path)
        _show_at(page, 390, "dark")
        found += [f"{path}, small: {fault}" for fault in faults_here(page)]
    assert found == []


def _show_at(page: Page, width: int, scheme: Literal["dark", "light"]) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.evaluate("Promise.allSettled(document.getAnimations().map((each) => each.finished))")


def test_pages_of_users_suit_administrators_on_small_screens(page: Page, stage: Stage) -> None:
    """They have one link more in the header."""
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark")
    paths = ["/", "/settings", "/exports", f"/apps/{stage.app}"]
    assert [fault for path in paths for fault in faults(page, path)] == []


def test_a_page_that_asks_before_an_action_is_accessible(page: Page, paths: list[str]) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/admin/runs/run/")
    page.get_by_label("Select this object for an action").first.check()
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("heading", name="Cancel runs of users")).to_be_visible()
    assert faults_here(page) == []
    page.get_by_label("Reason").fill("   ")
    page.get_by_role("button", name="Cancel the runs").click()
    expect(page.get_by_text("This field is required.")).to_be_visible()
    assert faults_here(page) == []


def test_a_run_is_canceled_by_keyboard_alone(page: Page, stage: Stage) -> None:
    run = stage.submit("sleep", seconds=100)
    page.goto(f"/admin/runs/run/{run}/change/")
    _tab_to(page, "Cancel…")
    page.keyboard.press("Enter")
    _tab_to(page, "", label="Reason")
    page.keyboard.type("Too long for a test")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 canceled.")).to_be_visible()
    assert stage.developer.ask("GET", f"/runs/{run}").json()["runs"][0]["cancel_requested"]


def test_an_action_of_a_list_is_reached_by_keyboard(page: Page, paths: list[str]) -> None:
    page.goto("/admin/runs/node/?q=")
    box = page.get_by_role("row", name="n9").get_by_role("checkbox")
    box.focus()
    page.keyboard.press("Space")
    expect(page.locator(".action-counter")).to_contain_text("1 of")
    button = page.get_by_role("button", name="Drain (claim no more tasks)", exact=True)
    button.focus()
    assert button.evaluate("each => getComputedStyle(each).outlineStyle") == "solid", "the focus is not seen"
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 nodes claim no more tasks.")).to_be_visible()


def _tab_to(page: Page, text: str, *, label: str = "") -> None:
    """Press Tab until the control with this text or label has the focus."""
    wanted = page.get_by_label(label) if label else page.get_by_role("button", name=text)
    for _ in range(200):
        page.keyboard.press("Tab")
        if wanted.evaluate("each => each === document.activeElement"):
            return
    pytest.fail(f"{text or label} is not reached by Tab")
