"""kill -9 of the importer, and of everything, at each step of an upload: it becomes one export with what was
sent, and nothing is left over.

`make test` tries each step on one of the databases, `make soak` on both.
"""

import contextlib
import hashlib
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gridapps.processes.leftovers import holders
from tests.chaos.rig import RECOVERS, Rig
from tests.chaos.states import locked
from tests.fixtures.pointclouds import write_pointcloud
from tests.fixtures.seed import SEED
from tests.fixtures.suspension import suspended

pytestmark = pytest.mark.chaos


@dataclass
class Sent:
    """An upload of two files, of which nothing has arrived yet. Checking the second takes a while."""

    rig: Rig
    contents: list[bytes]
    key: str

    @classmethod
    def begin(cls, rig: Rig) -> "Sent":
        home = Path(tempfile.mkdtemp(prefix="upload-"))
        contents = [
            write_pointcloud(home / f"{points}.laz", points=points).read_bytes()
            for points in (100, 1_000_000)
        ]
        files = [{"name": f"{n}.laz", "size": len(content)} for n, content in enumerate(contents)]
        body = {"name": "uploaded", "files": files}
        answer = rig.developer.ask("POST", "/uploads", expect=201, json=body)
        return cls(rig, contents, answer.json()["uploads"][0]["id"])

    def send(self, *, index: int, end: int | None = None, begin: int = 0) -> None:
        """Send these bytes of a file, in parts."""
        content = self.contents[index][:end]
        while begin < len(content):
            part = content[begin : begin + 4 * 1024**2]
            headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(begin)}
            self.rig.developer.ask(
                "PATCH", f"/uploads/{self.key}/files/{index}", expect=204, content=part, headers=headers
            )
            begin += len(part)

    def send_everything(self) -> None:
        for index in range(len(self.contents)):
            self.send(index=index)

    def shown(self) -> dict[str, Any]:
        return dict(self.rig.developer.ask("GET", f"/uploads/{self.key}").json()["uploads"][0])

    def stored(self) -> dict[str, str]:
        """Names and SHA-256 of the files in the directory of the export."""
        directory = self.rig.instance.data / "exports" / self.key.replace("-", "")
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (directory.iterdir() if directory.exists() else ())
        }

    def taken(self) -> int:
        """How many files were checked."""
        asked = "SELECT count(*) FROM exports_uploadfile WHERE upload_id = ? AND taken IS NOT NULL"
        with contextlib.suppress(sqlite3.OperationalError):
            return int(self.rig.query(asked, self.key)[0][0])
        return 0


Kill = Callable[[], None]


def receiving(sent: Sent, kill: Kill) -> None:
    """A part of the first file has arrived."""
    sent.send(index=0, end=500)
    kill()
    assert sent.shown()["files"][0]["offset"] == 500
    sent.send(index=0, begin=500)
    sent.send(index=1)


def waiting(sent: Sent, kill: Kill) -> None:
    """Everything has arrived, and no check has begun."""
    with suspended(sent.rig.instance.part("importer")):
        sent.send_everything()
        assert sent.shown()["state"] == "checking"
        kill()


def reading(sent: Sent, kill: Kill) -> None:
    """The first file is checked, and the second one is being read."""
    sent.send_everything()
    sent.rig.until(
        lambda: sent.taken() == 1 and len(sent.stored()) == 2, "checking the second file", seconds=RECOVERS
    )
    kill()


def blocked(sent: Sent, kill: Kill) -> None:
    """The check waits for the database, which cannot be written."""
    with suspended(sent.rig.instance.part("importer")):
        sent.send_everything()
    with locked(sent.rig, "exports_uploadfile"):
        time.sleep(1)  # it needs not have come far: nothing of what it does is written
        kill()


def recording(sent: Sent, kill: Kill) -> None:
    """Both files are checked, and the export cannot be recorded."""
    importer = sent.rig.instance.part("importer")
    sent.send_everything()
    sent.rig.until(lambda: sent.taken() == 2 or sent.shown()["ended_at"], "checked", seconds=RECOVERS)
    with suspended(importer):
        kill()


STEPS = [receiving, waiting, blocked, reading, recording]


def _kill_importer(rig: Rig) -> None:
    os.kill(rig.instance.part("importer"), signal.SIGKILL)


def _kill_everything(rig: Rig) -> None:
    rig.kill_everything()
    rig.start_everything()


@contextlib.contextmanager
def _upload(rig: Rig) -> Iterator[Sent]:
    rig.until(rig.up, "up before the case", seconds=RECOVERS)
    rig.until(lambda: rig.instance.find("importer"), "importing", seconds=RECOVERS)
    yield Sent.begin(rig)


def _try(rig: Rig, step: Callable[[Sent, Kill], None], kill: Callable[[Rig], None]) -> None:
    exports = {export["pk"] for export in rig.developer.ask("GET", "/exports").json()["exports"]}
    with _upload(rig) as sent:
        step(sent, lambda: kill(rig))
        rig.until(rig.up, "up again", seconds=RECOVERS)
        rig.until(lambda: sent.shown()["ended_at"], "ended", seconds=RECOVERS)
        shown = sent.shown()
        assert (shown["state"], shown["reason"]) == ("ready", "")
        found = {export["pk"] for export in rig.developer.ask("GET", "/exports").json()["exports"]} - exports
        assert len(found) == 1
        wanted = {f"{n}.laz": hashlib.sha256(content).hexdigest() for n, content in enumerate(sent.contents)}
        assert sent.stored() == wanted
        rig.until(
            lambda: not list((rig.instance.data / "incoming").glob(f"{sent.key.replace('-', '')}.*")),
            "removed what had arrived",
            seconds=RECOVERS,
        )
        rig.until(lambda: len(holders(rig.instance.data / "run" / "importer.held")) == 1, "without readers")
        rig.developer.ask("DELETE", f"/exports/{shown['export']}", expect=204)


def _is_chosen(number: int, database: int) -> bool:
    return os.environ.get("CHAOS") == "all" or (SEED + number) % 2 == database


@pytest.mark.parametrize("step", [step for n, step in enumerate(STEPS) if _is_chosen(n, 0)])
def test_the_importer_on_postgresql(clustered: Rig, step: Callable[[Sent, Kill], None]) -> None:
    _try(clustered, step, _kill_importer)


@pytest.mark.parametrize("step", [step for n, step in enumerate(STEPS) if _is_chosen(n, 1)])
def test_the_importer_on_sqlite(embedded: Rig, step: Callable[[Sent, Kill], None]) -> None:
    _try(embedded, step, _kill_importer)


def test_everything_while_a_file_is_read(embedded: Rig) -> None:
    _try(embedded, reading, _kill_everything)
