"""`gridapps outputs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gridapps_client import downloads
from gridapps_client.address import segment
from gridapps_client.commands.shared import Session, common, confirm, left_out_lines
from gridapps_client.errors import GridAppsError
from gridapps_client.models import LeftOutFiles, Output
from gridapps_client.progress import transferring
from gridapps_client.text import plain, size


@click.group()
def outputs() -> None:
    """Outputs of runs."""


@outputs.command("list")
@click.argument("run_id", metavar="RUN")
@common
def outputs_list(session: Session, run_id: str) -> None:
    """List a run's outputs."""
    found, missing = list(session.client.outputs(run_id)), session.client.left_out(run_id)
    rows = [
        (each.path, size(each.size), each.media_type, "partial" if each.partial else "", each.sha256)
        for each in found
    ]
    session.table(
        {"outputs": found, **vars(missing)},
        ("PATH", "SIZE", "TYPE", "", "SHA-256"),
        rows,
        none="The run has no outputs.",
    )
    _tell_left_out(session, missing)


@outputs.command("get")
@click.argument("run_id", metavar="RUN")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to write to; by default one named after the run.",
)
@click.option("--zip", "as_zip", is_flag=True, help="Download all outputs as one zip.")
@click.option("--overwrite", is_flag=True, help="Replace files that have other content.")
@common
def outputs_get(
    session: Session, *, run_id: str, paths: tuple[str, ...], to: Path | None, as_zip: bool, overwrite: bool
) -> None:
    """Download a run's outputs: all, or those that PATH names, a directory or a pattern such as '*.tif'."""
    if as_zip:
        if paths or overwrite:
            raise GridAppsError(
                "--zip downloads all outputs and cannot be combined with PATH or --overwrite.", code="usage"
            )
        _get_zip(session, run_id, to or Path())
        _tell_left_out(session, session.client.left_out(run_id))
        return
    chosen = downloads.select(session.client.outputs(run_id), paths)
    got, failures = _get_files(session, run_id, chosen, to or Path(segment(run_id)), overwrite=overwrite)
    session.result({"files": got}, *(plain(str(each["file"])) for each in got))
    for failure in failures:
        session.tell(str(failure))
    _tell_left_out(session, session.client.left_out(run_id))
    if failures:
        raise GridAppsError(f"{len(failures)} of {len(chosen)} outputs were not written.", code="incomplete")
    if not chosen:
        session.tell("The run has no outputs.")


@outputs.command("delete")
@click.argument("run_id", metavar="RUN")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@common
def outputs_delete(session: Session, run_id: str, yes: bool) -> None:
    """Delete a run's outputs and log permanently. The run itself stays."""
    if not yes and not confirm(f"Delete the outputs and the log of run {run_id}?"):
        raise GridAppsError("Nothing was deleted; confirm with --yes.", code="usage")
    session.client.delete_outputs(run_id)
    session.result({"run_id": run_id}, f"Deleted the outputs and the log of run {run_id}.")


def _tell_left_out(session: Session, missing: LeftOutFiles) -> None:
    for line in left_out_lines(missing.left_out, count=missing.left_out_count):
        session.tell(line)


def _get_files(
    session: Session, run_id: str, chosen: list[Output], directory: Path, *, overwrite: bool
) -> tuple[list[dict[str, Any]], list[GridAppsError]]:
    """Download each; return what was written, and the failures that concern one output only."""
    got, failures = [], []
    with transferring(Console(stderr=True), total=sum(each.size for each in chosen)) as progress:
        task = progress.task_ids[0]
        for each in chosen:
            try:
                path = session.client.download(
                    run_id,
                    each,
                    to=directory,
                    overwrite=overwrite,
                    progressed=lambda count: progress.advance(task, count),
                )
            except GridAppsError as error:
                # Continue after one bad output, but not after a full disk or a network failure.
                if error.code not in ("unsafe-path", "exists", "corrupt"):
                    raise
                failures.append(error)
            else:
                got.append({"path": each.path, "file": str(path), "size": each.size, "sha256": each.sha256})
    return got, failures


def _get_zip(session: Session, run_id: str, to: Path) -> None:
    with transferring(Console(stderr=True), total=None) as progress:
        task = progress.task_ids[0]
        file = session.client.download_zip(
            run_id,
            to=to / f"{segment(run_id)}.zip",
            progressed=lambda count: progress.advance(task, count),
        )
    session.result({"files": [{"file": str(file)}]}, plain(str(file)))
