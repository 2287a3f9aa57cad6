"""A blocked App or release says so, and since when and why."""

from datetime import datetime, timezone

from gridapps_client.commands.app import _page
from gridapps_client.decoding import decode
from gridapps_client.models import App, Release

AT = datetime(2026, 1, 31, tzinfo=timezone.utc)  # noqa: UP017 (Python 3.10 has no other name)
SINCE = "2026-01-31T00:00:00.000000Z"


def test_app_show_says_that_it_is_blocked() -> None:
    app = dict.fromkeys(
        ("id", "title", "description", "owner", "created_at", "updated_at", "repository"), "x"
    )
    shown = {
        **app, "created_at": SINCE, "updated_at": SINCE, "arguments": {},
        "resources": {"cpus": 1, "memory": 1, "disk": 1, "time": 1},
        "runnable": False, "release": None,
    }  # fmt: skip
    free = decode(App, shown)
    assert not any("BLOCKED" in line for line in _page(free, None))
    blocked = decode(App, {**shown, "blocked": "it \x1b[2J leaks", "blocked_at": SINCE})
    assert (
        _page(blocked, None)[1] == "BLOCKED by an administrator since 2026-01-31 00:00:00Z: it \\x1b[2J leaks"
    )
    release = Release(
        digest="sha256:1", tags=["v1"], pushed_at=AT, size=1, layers=1, entrypoint=[], command=[],
        state="valid", reasons=[], blocked="leaks", blocked_at=AT,
    )  # fmt: skip
    assert "BLOCKED by an administrator since 2026-01-31 00:00:00Z: leaks" in "\n".join(
        _page(free, [release])
    )
