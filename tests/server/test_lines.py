"""Log lines: JSON with the ids of request or task, and without secrets."""

import json
import logging
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.test import Client

from gridapps.audit import context
from gridapps.config import lines
from gridapps.config.lines import Json, Text, without_secrets
from tests.api.conftest import Callers, MakeApp, MakeExport, callers, make_app, make_export
from tests.runs.conftest import make_run, release, shared_with

__all__ = ["callers", "make_app", "make_export", "make_run", "release", "shared_with"]
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


class Kept(logging.Handler):
    """Keeps each record as the instance's formatter writes it, in the thread that logged it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(Json())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @property
    def told(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def kept():
    handler = Kept()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_the_instance_writes_json_by_default():
    assert django_settings.GRIDAPPS.log_format == "json"
    (handler,) = (each for each in logging.getLogger().handlers if isinstance(each.formatter, Json))
    assert isinstance(handler, logging.StreamHandler)


def test_a_line_is_one_object_whatever_is_in_it(kept: Kept) -> None:
    with context.bound(task="t", node="one", password="x"):
        logging.getLogger("some").warning("two\nlines, %s", '"quoted"', extra={"request": "GET /?secret"})
    (line,) = kept.lines
    assert "\n" not in line
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", found.pop("at"))
    assert found == {
        "level": "WARNING", "logger": "some", "message": 'two\nlines, "quoted"', "task": "t", "node": "one",
    }  # fmt: skip


def test_ids_end_with_what_they_belong_to_and_reach_no_other_thread(kept: Kept) -> None:
    log = logging.getLogger("some")
    with context.bound(run="1"):
        with context.bound(task="2"):
            context.add(user=3)
            log.warning("inside")
        other = threading.Thread(target=log.warning, args=("elsewhere",))
        other.start()
        other.join()
        log.warning("outside")
    inside, elsewhere, outside = kept.told
    assert (inside["run"], inside["task"], inside["user"]) == ("1", "2", "3")
    assert "run" not in elsewhere
    assert {"task", "user"}.isdisjoint(outside)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcDEF123._-", "abcDEF123"),
        ("{'Authorization': 'Bearer abcDEF123'}", "abcDEF123"),
        ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("cannot reach postgresql://gridapps:opensesame@db/gridapps", "opensesame"),
        ("amqps://user:opensesame@broker//", "opensesame"),
    ],
)
def test_secrets_are_taken_out(text: str, secret: str) -> None:
    assert secret not in without_secrets(text)
    record = logging.LogRecord("n", logging.ERROR, "", 0, "%s", (text,), None)
    assert secret not in Json().format(record)
    assert secret not in Text().format(record)


def test_an_exception_shows_none_either(kept: Kept) -> None:
    try:
        raise ValueError("Bearer abcDEF123 was wrong")
    except ValueError:
        logging.getLogger("some").exception("It failed")
    (found,) = kept.told
    assert "Traceback" in found["exception"]
    assert "abcDEF123" not in kept.lines[0]


@pytest.mark.django_db(transaction=True)
def test_from_the_request_to_the_run(
    kept: Kept, callers: Callers, make_app: MakeApp, make_export: MakeExport
) -> None:
    make_app()
    export = make_export(callers.developer.user)
    number = "0123456789abcdef" * 2
    answer = callers.developer("POST", "/apps/roads/runs", {"export": export.pk}, **{"X-Request-ID": number})
    assert answer["X-Request-ID"] == number
    run = answer.json()["runs"][0]["run_id"]
    (submitted,) = (line for line in kept.told if "submitted" in line["message"])
    user = str(callers.developer.user.pk)
    assert (submitted["request"], submitted["run"], submitted["user"]) == (number, run, user)
    (asked,) = (line for line in kept.told if line["logger"] == "gridapps.web.requests")
    assert asked["message"] == "POST /api/v3/apps/roads/runs: 202"
    assert (asked["request"], asked["user"]) == (number, user)
    assert not any(callers.developer.token in line for line in kept.lines)


@pytest.mark.django_db
@pytest.mark.parametrize("given", ["", "mine", "x" * 32, "0" * 31 + "\u0664"])
def test_an_id_of_another_form_is_not_taken(given: str) -> None:
    answer = Client().get("/login", secure=True, headers={"Host": "localhost", "X-Request-ID": given})
    assert re.fullmatch("[0-9a-f]{32}", answer["X-Request-ID"])


@pytest.mark.django_db
def test_reading_is_not_logged_and_a_query_never(kept: Kept, callers: Callers) -> None:
    callers.developer("GET", "/runs")
    callers.developer("POST", "/developer?token=opensesame", {"statement": "x"})
    written = [line["message"] for line in kept.told if line["logger"] == "gridapps.web.requests"]
    assert written == ["POST /api/v3/developer: 400"]
    assert not any("opensesame" in line or callers.developer.token in line for line in kept.lines)


def test_every_field_is_documented():
    documented = set(re.findall(r"^\| `(\w+)` \|", OPERATIONS.read_text().split("## Logs")[1], re.M))
    assert documented == {*context.IDS, "exception"}


@pytest.mark.parametrize("made", [lambda text: (text, None), lambda text: ("It failed", ValueError(text))])
@pytest.mark.parametrize("piece", ["A", "é", "\x00", "bearer ", "a://b:", "authorization:   "])
def test_a_line_has_a_bounded_length(made, piece: str) -> None:
    message, error = made(piece * 2_000_000)
    exception = (type(error), error, None) if error else None
    record = logging.LogRecord("n", logging.ERROR, "", 0, "%s", (message,), exception)
    begun = time.process_time()
    for formatter in (Json(), Text()):
        assert len(formatter.format(record)) < 50_000
    assert time.process_time() - begun < 1


def test_no_secret_remains_where_a_line_is_cut() -> None:
    for before in range(lines.MAX_MESSAGE - 30, lines.MAX_MESSAGE + 10):
        shown = lines.message(" " * before + " Bearer opensesameopensesame" + " " * 5000)
        assert "open" not in shown
    for before in range(0, 3 * lines.MAX_EXCEPTION, 10):
        shown = lines.exception("-" * before + " amqp://user:opensesame@host " + "." * (40_000 - before))
        assert "opensesame" not in shown


def test_the_beginning_and_the_end_of_a_traceback_are_kept() -> None:
    shown = lines.exception("first" + "x" * 100_000 + "last")
    assert shown.startswith("first")
    assert shown.endswith("last")
    assert "[cut, 100009 characters]" in shown


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "A" * 2000])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/" + "A" * 14_000, {}),
        ("/api/v3/" + "é" * 4_000, {}),
        ("/login", {"Host": "h" * 8000, "User-Agent": "u" * 8000, "Referer": "r" * 8000}),
        ("/api/v3/runs", {"Host": "localhost", "Authorization": "Bearer " + "t" * 8000}),
        ("/login?next=" + "n" * 8000, {"Host": "localhost", "Cookie": "sessionid=" + "c" * 8000}),
        ("/oauth/authorize?client_id=" + "n" * 8000, {"Host": "localhost"}),
    ],
)
def test_an_anonymous_request_logs_little(
    kept: Kept, method: str, path: str, headers: dict[str, str]
) -> None:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.generic(method, path, secure=True, headers={"Host": "localhost", **headers})
    assert sum(map(len, kept.lines)) < 2000, kept.lines


def test_the_server_writes_no_line_for_a_request() -> None:
    program = (
        "import logging, uvicorn;"
        "uvicorn.Config('gridapps.config.asgi:application', access_log=False).load();"
        "print(*(logging.getLogger(f'uvicorn.{name}').hasHandlers() for name in ('access', 'error')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
