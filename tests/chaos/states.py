"""Brings a run to a state and holds it there while something is killed. The product has no hooks for this:
the real parts are stopped, slowed down or locked from outside."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg

from tests.chaos.rig import FILES, Rig
from tests.fixtures.suspension import suspended

Hold = Callable[[Rig], AbstractContextManager[str]]  # gives the run's id


@contextlib.contextmanager
def queued(rig: Rig) -> Iterator[str]:
    """The worker is suspended, so the tasks stay in the queue."""
    with suspended(rig.instance.part("worker")):
        run = rig.submit(seconds=0)
        assert {state for state, _, _ in rig.tasks(run)} == {"QUEUED"}
        yield run


@contextlib.contextmanager
def preparing(rig: Rig) -> Iterator[str]:
    """The engine pulls the image from a registry that does not answer."""
    rig.forget_image()
    with suspended(rig.instance.part("registry")):
        run = rig.submit(seconds=0)
        rig.until(lambda: rig.tasks(run)[0][0] == "RUNNING", "claimed")
        time.sleep(0.3)
        assert all(deadline is None for _, deadline, _ in rig.tasks(run)), "it was started already"
        yield run


@contextlib.contextmanager
def running(rig: Rig) -> Iterator[str]:
    """The programs of all tasks have reported their first progress."""
    run = rig.submit(seconds=2)
    await_begin(rig, run)
    yield run


@contextlib.contextmanager
def collecting(rig: Rig) -> Iterator[str]:
    """Some of the outputs are copied, but not all: the worker is suspended during collection."""
    for _ in range(5):
        run = rig.submit(seconds=0.5)
        copies = rig.place(run, 0) / "1" / "files"
        end = time.monotonic() + 30
        while not copies.exists() and time.monotonic() < end:
            time.sleep(0.001)
        with suspended(rig.instance.part("worker")):
            if _count(copies) < 303:
                yield run
                return
        rig.assert_nothing_lost(run)  # it ended before it could be suspended
    raise AssertionError("collection was too quick to be met, five times")


@contextlib.contextmanager
def finishing(rig: Rig) -> Iterator[str]:
    """All outputs are collected, and the transaction that ends the task waits for a lock."""
    run = rig.submit(seconds=1.5)
    await_begin(rig, run)  # and the database has it: on SQLite the lock blocks every write
    with locked(rig, "runs_output"):
        rig.until(
            lambda: any(_count(rig.place(run, n) / "1" / "files") == 303 for n in range(FILES)), "ready"
        )
        time.sleep(0.3)
        assert "RUNNING" in {state for state, _, _ in rig.tasks(run)}
        yield run


def await_begin(rig: Rig, run: str) -> None:
    """Wait until the programs of all tasks have begun, and the database shows it."""
    begun = "SELECT count(*) FROM runs_task WHERE run_id = ? AND progress > 0"
    rig.until(lambda: rig.query(begun, run)[0][0] == FILES, "begun")


STATES: dict[str, Hold] = {
    "queued": queued,
    "preparing": preparing,
    "running": running,
    "collecting": collecting,
    "finishing": finishing,
}


@contextlib.contextmanager
def locked(rig: Rig, table: str) -> Iterator[None]:
    """Lock a table (PostgreSQL) or the whole database (SQLite) against writes."""
    if rig.cluster is None:
        path = rig.instance.data / "database" / "gridapps.sqlite3"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")
        return
    server = psycopg.connect(rig.instance.settings["GRIDAPPS_DATABASE"])
    try:
        server.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
        yield
    finally:
        with contextlib.suppress(psycopg.Error):  # it may have died meanwhile
            server.close()


def _count(directory: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(directory))
