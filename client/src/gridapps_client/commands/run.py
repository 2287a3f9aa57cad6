"""`gridapps run`: submit a run and watch it until it ends."""

from __future__ import annotations

import sys
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TextIO

import click
from rich.console import Console

from gridapps_client import terms
from gridapps_client.commands.shared import Session, common, left_out_lines, positive, read
from gridapps_client.errors import Conflict, GridAppsError, Unreachable
from gridapps_client.models import Run
from gridapps_client.progress import watching
from gridapps_client.text import plain

EXIT = {"SUCCESS": 0, "FAILURE": 1, "CANCELED": 130}
_LAST_LINES = 20
_TASKS_WITH_LOG = 3


@click.command()
@click.argument("app_id", metavar="APP")
@click.option("--export", metavar="PK", help="The export to run on.")
@click.option("--exportfile", metavar="PK", help="One file of an export to run on.")
@click.option(
    "--argument", "-a", "words", metavar="NAME=VALUE", multiple=True, help="An argument, as JSON or text."
)
@click.option(
    "--arguments", type=click.File(encoding="utf-8"), help="JSON file with arguments; - for standard input."
)
@click.option("--release", help="Digest or tag; by default the newest valid release.")
@click.option(
    "--cpus", type=float, callback=positive, help="Processors of each task instead of the App's own."
)
@click.option("--memory", help="Memory of each task, such as 2GiB.")
@click.option("--disk", help="Disk for the outputs of each task, such as 10GiB.")
@click.option("--time", "time_", help="Time limit of each task, such as 30m.")
@click.option(
    "--priority",
    type=click.IntRange(-10, 10),
    help="Order among your own runs: higher starts first. A step equals ten minutes of waiting.",
)
@click.option("--key", type=click.UUID, help="Submitting again with the same key returns the same run.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@common
def run(
    session: Session,
    *,
    app_id: str,
    export: str | None,
    exportfile: str | None,
    words: tuple[str, ...],
    arguments: TextIO | None,
    release: str | None,
    priority: int | None,
    key: uuid.UUID | None,
    detach: bool,
    **resources: Any,
) -> None:
    """Run APP on an export. Exit code: 0 success, 1 failure, 130 canceled or interrupted."""
    if (export is None) == (exportfile is None):
        raise GridAppsError(
            "Give either --export PK or --exportfile PK; see them with: gridapps exports", code="usage"
        )
    values = terms.json_object(read(arguments), source=arguments.name) if arguments else {}
    if words:
        values |= terms.arguments(words, schema=session.client.app(app_id).arguments)
    key = key or uuid.uuid4()
    try:
        taken = session.client.submit(
            app_id,
            export=export,
            exportfile=exportfile,
            arguments=values,
            release=release,
            resources=_resources(**resources),
            priority=priority,
            key=key,
        )
    except Unreachable as error:
        raise Unreachable(
            f"{error.message} The run may have been accepted. To try again without making a second run, "
            f"add --key {key}",
            code=error.code,
        ) from error
    if detach:
        session.result({"runs": [taken]}, plain(taken.run_id))
        return
    session.tell(f"Run {taken.run_id}")
    stay(session, taken.run_id)


def stay(session: Session, run_id: str) -> None:
    """Show the run until it ends, print the result, and exit with the corresponding code."""
    ended = _watched(session, run_id)
    if ended.state == "FAILURE":
        _tell_failure(session, ended)
    session.result({"runs": [ended]}, *_summary(ended))
    sys.exit(EXIT[ended.state])


def _watched(session: Session, run_id: str) -> Run:
    console, asked = Console(stderr=True), False
    while True:
        try:
            with watching(console) as watcher:
                for current in session.client.watch(run_id):
                    watcher.show(current)
        except KeyboardInterrupt:
            if asked or not _asks_to_cancel(session, run_id):
                session.tell(f"The run continues; watch it again with: gridapps runs watch {run_id}")
                sys.exit(130)
            asked = True
        else:
            return current


def _asks_to_cancel(session: Session, run_id: str) -> bool:
    """Ask the user whether to cancel, and return whether the run is being canceled."""
    if not sys.stdin.isatty():
        return False
    try:
        if not click.confirm("\nCancel the run?", default=False, err=True):
            return False
        session.client.cancel(run_id)
    except (click.Abort, KeyboardInterrupt):
        return False
    except Conflict:
        # It ended in the meantime; watching shows the result.
        return True
    return True


def _tell_failure(session: Session, ended: Run) -> None:
    failed = [task for task in ended.tasks if task.state == "FAILURE"]
    for task in failed[:_TASKS_WITH_LOG]:
        session.tell(f"{task.name}: {task.reason_text}")
        try:
            lines = deque(session.client.log(ended.id, task=task.index), maxlen=_LAST_LINES)
        except GridAppsError as error:
            session.tell(f"(the log cannot be shown: {error})")
            continue
        for line in lines:
            session.tell(f"    {line.text}")
    if len(failed) > _TASKS_WITH_LOG:
        session.tell(f"{len(failed) - _TASKS_WITH_LOG} more tasks failed; see: gridapps runs show {ended.id}")


def _summary(ended: Run) -> Iterator[str]:
    if ended.state == "SUCCESS":
        yield f"SUCCESS. Get the outputs with: gridapps outputs get {ended.id}"
    else:
        why = ended.reason_text.rstrip(".")
        yield f"{plain(ended.state)}." + (
            "" if why.upper() == ended.state else f" {plain(ended.reason_text)}"
        )
    yield from left_out_of(ended)


def left_out_of(run: Run) -> Iterator[str]:
    """A line for each file that could not be kept as an output, up to a number."""
    named = [replace(each, path=f"{task.index}/{each.path}") for task in run.tasks for each in task.left_out]
    yield from left_out_lines(named, count=sum(task.left_out_count for task in run.tasks))


def _resources(
    *, cpus: float | None, memory: str | None, disk: str | None, time_: str | None
) -> dict[str, Any] | None:
    given = {
        "cpus": cpus,
        "memory": terms.number_of_bytes(memory) if memory else None,
        "disk": terms.number_of_bytes(disk) if disk else None,
        "time": terms.number_of_seconds(time_) if time_ else None,
    }
    return {name: value for name, value in given.items() if value is not None} or None
