"""The outputs of a task with very many small files: collected, made durable, recorded, listed, removed.

    .venv/bin/python -m bench.outputs [FILES]

Needs neither an instance nor an engine. Collection is measured beside a plain copy of the same files. Exits
with 1 when a target is missed.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from gridapps.runs.queue import Claim
    from gridapps.runs.store import CollectedFile

T = TypeVar("T")
IN_A_DIRECTORY = 1000
PAGE = 1000  # outputs
MOST = 3.0  # times as long as a plain copy may collection take: it hashes, and opens everything by descriptor


def main() -> int:
    """Measure once, and print."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="bench-outputs-") as name:
        top = Path(name)
        _prepare(top)
        return _measure(top, files)


def _prepare(top: Path) -> None:
    """Django with an empty database."""
    os.environ["GRIDAPPS_DATA"] = str(top / "data")
    os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
    (top / "data" / "database").mkdir(parents=True)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _measure(top: Path, files: int) -> int:
    from gridapps.runs import queue
    from gridapps.runs.models import Output
    from gridapps.runs.states import State
    from gridapps.storage.directory import settle
    from gridapps.worker.collection import collect

    for number in range(files):
        file = top / "grid" / f"{number // IN_A_DIRECTORY}" / f"{number}.laz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}")
    copied, _ = _timed(lambda: shutil.copytree(top / "grid", top / "copy"))
    grid = os.open(top / "grid", os.O_RDONLY | os.O_DIRECTORY)
    collected, found = _timed(lambda: collect(grid, top / "files", max_files=files, max_bytes=10**9))
    settled, _ = _timed(lambda: settle(top / "files"))
    mine = _claim()
    recorded, _ = _timed(
        lambda: queue.finish(claim=mine, state=State.SUCCESS, reason="", text="", outputs=found.outputs)
    )
    first, _ = _timed(lambda: _page(mine, found.outputs[0]))
    last, _ = _timed(lambda: _page(mine, found.outputs[-PAGE]))
    removed, _ = _timed(lambda: Output.objects.filter(task=mine.task).delete())
    ratio = collected / copied
    print(f"{files} files, load {os.getloadavg()[0]:.1f}; microseconds for each file\n")
    rows = {"plain copy": copied, "collect": collected, "make durable": settled, "record": recorded}
    for name, seconds in {**rows, "remove the rows": removed}.items():
        print(f"{name:16} {seconds / files * 1e6:8.1f}")
    print(f"\na page of {PAGE} from the beginning: {first:.3f} s, near the end: {last:.3f} s")
    print(f"collection takes {ratio:.1f} times as long as a plain copy; target: at most {MOST:g}")
    return int(ratio > MOST)


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    began = time.monotonic()
    result = action()
    return time.monotonic() - began, result


def _claim() -> "Claim":
    """The claim on the only task of a run, as rows without files."""
    from datetime import timedelta

    from django.utils import timezone

    from gridapps.access.models import User
    from gridapps.exports.models import Export, ExportFile
    from gridapps.registry.models import App, Release
    from gridapps.runs import queue
    from gridapps.runs.models import Run, Task

    user = User.objects.create(username="bench")
    terms = {"cpus": 1, "memory": 1, "disk": 1, "time": 60}
    app = App.objects.create(app_id="bench", owner=user, title="Bench", arguments={}, **terms)
    release = Release.objects.create(
        app=app, digest="sha256:" + "0" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip
    export = Export.objects.create(owner=user, name="bench")
    file = ExportFile.objects.create(
        export=export, name="a.laz", path="a", size=1, sha256="", points=1, las_version="1.4", point_format=6,
        bounds=[], footprint=b"",
    )  # fmt: skip
    run = Run.objects.create(owner=user, release=release, export=export, arguments={}, **terms)
    Task.objects.create(run=run, owner=user, index=0, exportfile=file, queued_at=timezone.now())
    mine = queue.claim(node="bench", lease=timedelta(minutes=10))
    assert mine is not None
    return mine


def _page(mine: "Claim", after: "CollectedFile") -> int:
    """Read the page behind an output, as `GET /runs/{id}/outputs` does."""
    from gridapps.runs import queries
    from gridapps.runs.models import Run

    rows = queries.outputs(Run.objects.get(pk=mine.run)).filter(task__index__gte=0, path__gt=after.path)
    return len(list(rows[:PAGE]))


if __name__ == "__main__":
    sys.exit(main())
