"""`gridapps exports`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from gridapps_client import uploading
from gridapps_client.commands.shared import Session, common, lists_by_default
from gridapps_client.errors import GridAppsError
from gridapps_client.models import ExportFile, Upload
from gridapps_client.progress import transferring
from gridapps_client.text import moment, plain, size, table


@click.command("list")
@common
def exports_list(session: Session) -> None:
    """List your exports."""
    found = list(session.client.exports())
    rows = [
        (
            each.pk,
            each.name,
            str(len(each.exportfiles)),
            f"{sum(file.points for file in each.exportfiles):,}",
            size(sum(file.filesize for file in each.exportfiles)),
            moment(each.created_at),
        )
        for each in found
    ]
    session.table(
        {"exports": found},
        ("PK", "NAME", "FILES", "POINTS", "SIZE", "CREATED"),
        rows,
        none="There are no exports.",
    )


@lists_by_default(exports_list)
def exports() -> None:
    """Your exports: list (the default), show, upload, rename, delete."""


@exports.command("show")
@click.argument("pk")
@common
def exports_show(session: Session, pk: str) -> None:
    """Show an export and its files."""
    found = session.client.export(pk)
    rows = [
        (each.pk, each.name, f"{each.points:,}", size(each.filesize), _system(each))
        for each in found.exportfiles
    ]
    remarks = [
        f"{plain(each.name)}: {plain(remark)}" for each in found.exportfiles for remark in each.remarks
    ]
    session.result(
        {"exports": [found]},
        f"{plain(found.pk)}: {plain(found.name)}, owner {plain(found.user)}, {moment(found.created_at)}",
        table(("PK", "NAME", "POINTS", "SIZE", "CRS"), rows),
        *remarks,
    )


@exports.command("rename")
@click.argument("pk")
@click.argument("name")
@common
def exports_rename(session: Session, pk: str, name: str) -> None:
    """Give an export another name."""
    found = session.client.rename_export(pk, name=name)
    session.result({"exports": [found]}, f"Export {plain(found.pk)} is called {plain(found.name)}.")


@exports.command("delete")
@click.argument("pk")
@click.option("--stop", is_flag=True, help="Cancel the runs on it that have not ended.")
@common
def exports_delete(session: Session, pk: str, stop: bool) -> None:
    """Delete an export and its files. Runs that have ended keep their outputs."""
    session.client.delete_export(pk, stop=stop)
    session.result({"pk": pk}, f"Deleted {plain(pk)}.")


@exports.command("upload")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the export.")
@click.option("--skip-bad", is_flag=True, help="Leave out files that are refused.")
@click.option("--detach", is_flag=True, help="Do not wait until the files have been checked.")
@common
def exports_upload(
    session: Session, *, files: tuple[Path, ...], name: str, skip_bad: bool, detach: bool
) -> None:
    """Upload FILES (LAS, LAZ, COPC) as an export. The same command continues after an interruption."""
    with transferring(Console(stderr=True), total=sum(map(_size, files)), what="upload") as progress:
        task = progress.task_ids[0]
        sent = uploading.upload(
            session.client,
            files,
            name=name,
            skip_bad=skip_bad,
            progressed=lambda count: progress.advance(task, count),
        )
    ended = sent if detach else uploading.wait(session.client, sent.id)
    if ended.state == "refused":
        raise GridAppsError(f"The upload was refused.\n{ended.reason}", code="refused-files")
    for file in ended.files:
        if file.reason:
            session.tell(f"left out: {file.name}: {file.reason}")
    session.result({"uploads": [ended]}, _line(ended))


@exports.command("uploads")
@common
def exports_uploads(session: Session) -> None:
    """List your uploads."""
    found = list(session.client.uploads())
    rows = [
        (
            each.id,
            each.name,
            each.state,
            str(len(each.files)),
            " of ".join(size(sum(getattr(file, what) for file in each.files)) for what in ("offset", "size")),
            each.export or "",
            each.reason.partition("\n")[0],
        )
        for each in found
    ]
    session.table(
        {"uploads": found},
        ("ID", "NAME", "STATE", "FILES", "ARRIVED", "EXPORT", "REASON"),
        rows,
        none="There are no uploads.",
    )


@exports.command("abandon")
@click.argument("upload_id", metavar="UPLOAD")
@common
def exports_abandon(session: Session, upload_id: str) -> None:
    """Delete an upload and what has arrived of it. An export that it became stays."""
    session.client.delete_upload(upload_id)
    session.result({"upload_id": upload_id}, f"Deleted {plain(upload_id)}.")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise GridAppsError(f"{path} cannot be read: {error.strerror}.", code="usage") from error


def _line(upload: Upload) -> str:
    if upload.export is None:
        return f"The files are being checked; see: gridapps exports uploads ({plain(upload.id)})"
    good = sum(not file.reason for file in upload.files)
    return f"Export {plain(upload.export)}: {good} file{'s' if good != 1 else ''}."


def _system(file: ExportFile) -> str:
    """Code and name of the CRS; an instance of an earlier version sends only WKT."""
    return " ".join(each for each in (file.crs_code, file.crs_name) if each) or ("WKT" if file.crs else "-")
