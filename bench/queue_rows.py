"""Claims and lists in long tables of the database that the settings name. Prints JSON: `Measured` rows."""

import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
django.setup()

from django.core.management import call_command
from django.db import connection, transaction
from django.test import RequestFactory
from django.utils import timezone

from bench.measures import Measured
from gridapps.access.models import User
from gridapps.api.native import run_answers
from gridapps.api.native.paging import page
from gridapps.exports.models import Export, ExportFile
from gridapps.registry.models import App, Release
from gridapps.runs import counts, lanes, queries, queue
from gridapps.runs.models import Run, Task
from gridapps.runs.states import State

LEASE = timedelta(seconds=60)
OTHERS = 10
NEWEST = ("-created_at", "-id")
_COLUMNS = (
    "id, owner_id, release_id, export_id, arguments, cpus, memory, disk, time, state, progress, message, "
    "reason, reason_text, version, request_hash, created_at, ended_at"
)
_VALUES = "1, 1, 1, 60, 'SUCCESS', 1, '', '', '', 1, ''"
_INSERT = {
    "sqlite": f"""
        WITH RECURSIVE series(n) AS (SELECT %s UNION ALL SELECT n + 1 FROM series WHERE n < %s)
        INSERT INTO runs_run ({_COLUMNS})
        SELECT lower(hex(randomblob(16))), %s, %s, %s, '{{}}', {_VALUES},
            strftime('%%Y-%%m-%%d %%H:%%M:%%f', '2020-01-01', n || ' seconds'), '2026-01-01 00:00:00'
        FROM series""",
    "postgresql": f"""
        WITH series AS (SELECT generate_series(%s, %s) AS n)
        INSERT INTO runs_run ({_COLUMNS})
        SELECT gen_random_uuid(), %s, %s, %s, '{{}}', {_VALUES},
            timestamptz '2020-01-01Z' + n * interval '1 second', timestamptz '2026-01-01Z'
        FROM series""",
}


class Rows:
    """The tables, with one App and one export file."""

    def __init__(self) -> None:
        owner = self.user("owner")
        app = App.objects.create(
            app_id="bench", owner=owner, title="", arguments={}, cpus=1, memory=1, disk=1, time=60
        )
        self.release = Release.objects.create(
            app=app, digest="sha256:" + "0" * 64, media_type="m", state="valid", size=1, layers=1,
            pushed_at=timezone.now(),
        )  # fmt: skip
        self.export = Export.objects.create(owner=owner, name="city")
        self.file = ExportFile.objects.create(
            export=self.export, name="a.laz", path="a", size=1, sha256="", points=1, las_version="1.4",
            point_format=6, bounds=[], footprint=b"",
        )  # fmt: skip

    def user(self, name: str) -> User:
        return User.objects.get_or_create(username=name)[0]

    def queue_tasks(self, name: str, count: int) -> None:
        """Runs of at most 1,000 tasks, as the submission writes them."""
        owner = self.user(name)
        for begin in range(0, count, 1000):
            with transaction.atomic():
                run = Run.objects.create(
                    owner=owner, release=self.release, export=self.export, arguments={}, cpus=1, memory=1,
                    disk=1, time=60,
                )  # fmt: skip
                lane, now = lanes.lane_of(run), timezone.now()
                Task.objects.bulk_create(
                    Task(
                        run=run,
                        owner=owner,
                        index=index,
                        exportfile=self.file,
                        queued_at=now,
                        lane=lane,
                        rank=now,
                    )
                    for index in range(min(1000, count - begin))
                )

    def analyze(self) -> None:
        """As the database does automatically after a while."""
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def undisturbed(times: list[float]) -> float:
    """The lower quartile, to exclude other load of the machine."""
    return statistics.quantiles(times, n=4)[0]


def cost(work: Callable[[], Any], rounds: int) -> float:
    """Seconds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return undisturbed(times)


def claim_seconds() -> float:
    """The cost of one of 200 claims. The claimed tasks are returned to the queue."""
    times = []
    for _ in range(10):
        claims = []
        for _ in range(20):
            begun = time.perf_counter()
            mine = queue.claim(node="bench", lease=LEASE)
            times.append(time.perf_counter() - begun)
            assert mine is not None
            claims.append(mine)
        for mine in claims:
            queue.release(claim=mine, reason="released", text="")
        queue.claim(node="bench", lease=LEASE)  # puts them into their lanes
    return undisturbed(times)


def claims(rows: Rows, name: str) -> list[Measured]:
    """Claims with 100 tasks queued, with 100,000, and with 100 again."""

    def fill(total: int) -> None:
        Task.objects.all().delete()
        Run.objects.all().delete()
        rows.queue_tasks("heavy", total * 9 // 10)
        for number in range(OTHERS):
            rows.queue_tasks(f"light-{number}", total // 10 // OTHERS)
        rows.analyze()

    fill(100)
    before = claim_seconds()
    fill(100_000)
    large = claim_seconds()
    fill(100)
    small = (before + claim_seconds()) / 2
    return [_ratio(f"{name}: claim, 100,000 queued, 90 % by one user", large, small, "100 queued", 1.2)]


def turns(rows: Rows, name: str) -> list[Measured]:
    """The task of a user with few tasks, after another user has queued 5,000, one of which has just ended."""
    Task.objects.all().delete()
    Run.objects.all().delete()
    rows.queue_tasks("heavy", 5000)
    first = queue.claim(node="bench", lease=LEASE)
    assert first is not None
    queue.finish(claim=first, state=State.SUCCESS, reason="", text="")
    rows.queue_tasks("light", 1)
    mine = queue.claim(node="bench", lease=LEASE)
    assert mine is not None
    after = int(Run.objects.get(pk=mine.run).owner.username != "light")
    return [
        Measured(
            f"{name}: light user behind 5,000", f"{after} before it", "", None, "0 before it", after == 0
        )
    ]


def lists(rows: Rows, name: str, total: int) -> list[Measured]:
    """The first page, and one in the middle, of a list of 1,000 runs and of a long one."""
    Task.objects.all().delete()
    Run.objects.all().delete()
    owner, requests = rows.user("heavy"), RequestFactory()

    def insert(first: int, last: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                _INSERT[connection.vendor], [first, last, owner.pk, rows.release.pk, rows.export.pk]
            )

    def listed(after: str | None) -> str | None:
        request = requests.get("/api/v3/runs")
        found, following = page(request, queries.owned_by(owner), NEWEST, limit=100, after=after)
        run_answers.shown(owner, found, tasks=False)
        return following.get("next")

    def middle() -> str:
        """The `after` of a page that ends at the row in the middle."""
        from django.core import signing

        row = Run.objects.order_by(*NEWEST)[Run.objects.count() // 2]
        return signing.dumps([row.created_at.isoformat(), str(row.pk)], salt="after:/api/v3/runs")

    def measure() -> tuple[float, float]:
        rows.analyze()
        mark = middle()
        return cost(lambda: listed(None), 40), cost(lambda: listed(mark), 40)

    insert(1, 1000)
    few = measure()
    insert(1001, total)
    many = measure()
    return [
        _ratio(f"{name}: first page of {total:,} runs", many[0], few[0], "of 1,000", 1.2),
        _ratio(f"{name}: a page in the middle", many[1], few[1], "of 1,000", 1.2),
    ]


def counts_of_app(rows: Rows, name: str, total: int) -> list[Measured]:
    """The counts for the owner of an App, of all runs that `lists` left, with a task for each."""
    columns = (
        "id, run_id, owner_id, exportfile_id, state, ended_at, queued_at, progress, message, reason, "
        'reason_text, usage, left_out, attempt, node, "index"'
    )
    identity = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()"}
    values = f"""{identity[connection.vendor]}, id, owner_id, {rows.file.pk}, state, ended_at, created_at, 1,
        '', '', '', '{{}}', '[]', 1, '', 0"""
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO runs_task ({columns}) SELECT {values} FROM runs_run")
    rows.analyze()

    def count() -> None:
        counts._counted.cache_clear()
        counts.counts_of_app(rows.release.app)

    took = cost(count, 5)
    at_most = {"postgresql": 5, "sqlite": 20}[connection.vendor]  # once a day for each process
    shown = f"below {at_most} s"
    return [Measured(f"{name}: counts of {total:,} runs", f"{took:.2f} s", "", None, shown, took < at_most)]


def _ratio(name: str, ours: float, theirs: float, beside: str, at_most: float) -> Measured:
    ratio = ours / theirs
    shown = (f"{ours * 1000:.2f} ms", f"{theirs * 1000:.2f} ms, {beside}")
    return Measured(name, *shown, ratio, f"at most {at_most:.2f}", ratio <= at_most)


def main() -> None:
    """`queue_rows NAME RUNS`."""
    name, total = sys.argv[1], int(sys.argv[2])
    call_command("migrate", verbosity=0)
    rows = Rows()
    measured = [*claims(rows, name), *turns(rows, name), *lists(rows, name, total)]
    measured += counts_of_app(rows, name, total)
    json.dump([dataclasses.asdict(row) for row in measured], sys.stdout)


if __name__ == "__main__":
    main()
