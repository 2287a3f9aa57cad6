"""Pages of users by keyboard alone, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.fixtures.browser import IN_A_BROWSER, logged_in
from tests.instance.conftest import Stage

pytestmark = [pytest.mark.system, *IN_A_BROWSER]

# The elements that Tab should reach, in the order of the page.
CONTROLS = """() => {
    const wanted = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
    return [...document.querySelectorAll(wanted)].filter(
        (each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility());
}"""
# Of the element that has the focus: its number in that order, and whether it is seen to have the focus.
HERE = f"""() => {{
    const here = document.activeElement;
    if (here === document.body) return null;
    const style = getComputedStyle(here), box = here.getBoundingClientRect();
    const drawn = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
    const within = box.left > -1 && box.width > 0;
    return [({CONTROLS})().indexOf(here), drawn && within, here.outerHTML.slice(0, 80)];
}}"""


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    with logged_in(browser, stage.instance, stage.developer.name) as opened:
        yield opened


def test_tab_reaches_everything_in_order_and_is_seen(page: Page, stage: Stage) -> None:
    run = stage.submit("summary")
    stage.developer.wait(run)
    paths = [
        "/", "/settings", "/settings/hooks", "/connect", "/device", f"/runs/{run}", f"/apps/{stage.app}",
        "/exports", f"/exports/{stage.export}",
    ]  # fmt: skip
    for path in paths:
        page.goto(path)
        count = page.evaluate(f"({CONTROLS})().length")
        reached, faults = [], []
        for _ in range(count):
            page.keyboard.press("Tab")
            here = page.evaluate(HERE)
            if here is None:
                break
            number, seen, shown = here
            reached.append(number)
            if not seen:
                faults.append(f"{path}: {shown}")
        assert faults == [], "no outline shows the focus"
        assert reached == sorted(reached)
        assert set(range(count)) - set(reached) == set(), (
            path,
            page.evaluate(f"({CONTROLS})().map(e => e.outerHTML)"),
        )


def test_the_skip_link_leads_to_the_content(page: Page) -> None:
    page.goto("/settings")
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip to the content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_run_is_submitted_watched_and_canceled_by_keyboard(page: Page, stage: Stage) -> None:
    page.goto(f"/apps/{stage.app}")
    _tab_to(page, page.get_by_label("Arguments, a JSON object"))
    page.keyboard.press("Control+a")
    page.keyboard.type('{"do": "sleep", "seconds": 100}')
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("RUNNING", timeout=60_000)
    log = page.get_by_role("log")
    expect(log).to_contain_text("begin sleep", timeout=60_000)
    assert log.evaluate("each => each.getAttribute('aria-live') || 'polite'") == "polite"
    _tab_to(page, page.get_by_role("button", name="Cancel the run"))
    page.keyboard.press("Space")
    expect(page.locator("#state")).to_have_text("CANCELED", timeout=60_000)


def test_enter_submits_a_form_and_details_open_and_close_by_keyboard(page: Page) -> None:
    page.goto("/settings")
    summary = page.get_by_text("New certificate")
    _tab_to(page, summary)
    page.keyboard.press("Enter")
    name = page.locator("#id_name")
    expect(name).to_be_visible()
    page.keyboard.press("Escape")
    expect(name).to_be_hidden()
    expect(summary).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(name).to_be_focused()
    page.keyboard.press("Escape")
    expect(name).to_be_hidden()
    expect(summary).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Certificate by keyboard")).to_be_visible()


def _tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until this control has the focus."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if wanted.evaluate("each => each === document.activeElement"):
            return
    pytest.fail(f"{wanted} is not reached by Tab")
