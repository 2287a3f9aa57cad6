"""`gridapps runs` and `gridapps logs`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import click

from gridapps_client.commands.run import left_out_of, stay
from gridapps_client.commands.shared import Session, common, lists_by_default
from gridapps_client.models import Run, RunTask
from gridapps_client.progress import counts
from gridapps_client.text import moment, plain, size, table

STATES = ("QUEUED", "RUNNING", "SUCCESS", "FAILURE", "CANCELED")


@click.command("list")
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only those in this state.")
@click.option("--app", "app_id", metavar="APP", help="Only those of this App.")
@click.option("--shown", is_flag=True, help="Runs of your Apps that their owners show you.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="The maximum number of runs.",
)
@common
def runs_list(session: Session, *, state: str | None, app_id: str | None, shown: bool, limit: int) -> None:
    """List your runs, newest first."""
    found = list(itertools.islice(session.client.runs(state=state, app=app_id, shown=shown), limit))
    rows = [
        (each.id, each.app, each.state, f"{each.progress:.0%}", counts(each), moment(each.created_at))
        for each in found
    ]
    session.table(
        {"runs": found}, ("ID", "APP", "STATE", "DONE", "TASKS", "CREATED"), rows, none="There are no runs."
    )


@lists_by_default(runs_list)
def runs() -> None:
    """Your runs: list (the default), show, watch, cancel, retry, show to the developer of the App.

    RUN is the id of a run, its first 4 or more digits if no other run begins with them, or `last`.
    """


@runs.command("show")
@click.argument("run_id", metavar="RUN")
@common
def runs_show(session: Session, run_id: str) -> None:
    """Show a run and its tasks."""
    found = session.client.run(run_id)
    session.result({"runs": [found]}, *_page(found))


@runs.command("watch")
@click.argument("run_id", metavar="RUN")
@common
def runs_watch(session: Session, run_id: str) -> None:
    """Watch a run until it ends. Exit code: that of its outcome, as of `gridapps run`."""
    stay(session, run_id)


@runs.command("cancel")
@click.argument("run_id", metavar="RUN")
@common
def runs_cancel(session: Session, run_id: str) -> None:
    """Cancel a run."""
    found = session.client.cancel(run_id)
    stopping = "" if found.ended else "; it is being canceled, and its containers are being stopped"
    session.result({"runs": [found]}, f"Run {plain(found.id)} is {plain(found.state)}{stopping}.")


@runs.command("retry")
@click.argument("run_id", metavar="RUN")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@common
def runs_retry(session: Session, run_id: str, detach: bool) -> None:
    """Run the tasks that failed or were canceled again, as a new run."""
    taken = session.client.retry(run_id)
    if detach:
        session.result({"runs": [taken]}, plain(taken.run_id))
        return
    session.tell(f"Run {taken.run_id}")
    stay(session, taken.run_id)


@runs.command("show-to-developer")
@click.argument("run_id", metavar="RUN")
@common
def runs_show_to_developer(session: Session, run_id: str) -> None:
    """Let the developer of the App see one run: arguments, names of files, progress, log and outputs.

    Your name is not shown, but your files may contain it. To undo: gridapps runs hide-from-developer RUN
    """
    found = session.client.show_to_developer(run_id)
    session.result(
        {"runs": [found]}, f"The developer of {plain(found.app)} can now see run {plain(found.id)}."
    )


@runs.command("hide-from-developer")
@click.argument("run_id", metavar="RUN")
@common
def runs_hide_from_developer(session: Session, run_id: str) -> None:
    """Hide a run from the developer again, at once. What they have downloaded cannot be withdrawn."""
    session.client.hide_from_developer(run_id)
    session.result({"id": run_id}, f"The developer can no longer see run {plain(run_id)}.")


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--follow", "-f", is_flag=True, help="Continue until the run ends.")
@click.option("--task", type=click.IntRange(min=0), metavar="INDEX", help="Only this task's.")
@common
def logs(session: Session, run_id: str, follow: bool, task: int | None) -> None:
    """Print a run's log: the task's index, the time and the text of each line."""
    source = session.client.follow_log if follow else session.client.log
    for line in source(run_id, task=task):
        session.record(line, f"{line.task} {plain(line.at)} {plain(line.text)}")


def _page(found: Run) -> Iterator[str]:
    yield f"{plain(found.id)}: {plain(found.app)} on export {plain(found.export)}"
    yield f"{plain(found.state)}, {counts(found)}, {found.progress:.0%}"
    if found.reason_text:
        yield plain(found.reason_text)
    if found.waiting_for:
        yield f"waiting: {plain(found.waiting_for.text)}"
    yield f"release {plain(found.release)}"
    yield (
        f"created {moment(found.created_at)}, started {moment(found.started_at)}, "
        f"ended {moment(found.ended_at)}"
    )
    if found.shown_to_developer:
        yield "shown to the developer of the App"
    if found.outputs_removed_at:
        yield f"outputs and log were removed {moment(found.outputs_removed_at)}"
    elif found.outputs_expire_at:
        yield f"outputs and log will be removed {moment(found.outputs_expire_at)}"
    for name, value in found.arguments.items():
        yield f"argument {plain(name)} = {plain(json.dumps(value, ensure_ascii=False))}"
    rows = [
        (
            str(task.index),
            task.name,
            task.state,
            f"{task.progress:.0%}",
            str(len(task.attempts)),
            _memory(task.usage),
            task.reason_text or task.message or _silence(task),
        )
        for task in found.tasks
    ]
    yield table(("TASK", "FILE", "STATE", "DONE", "ATTEMPTS", "MEMORY", ""), rows)
    yield from left_out_of(found)


def _silence(task: RunTask) -> str:
    return f"wrote last at {task.last_heard_at}" if task.last_heard_at else ""


def _memory(usage: dict[str, object]) -> str:
    used = usage.get("memory_bytes")
    return size(used) if isinstance(used, (int, float)) else "-"
