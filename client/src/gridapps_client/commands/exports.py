"""`gridapps exports`."""

from __future__ import annotations

import click

from gridapps_client.commands.shared import Session, common, lists_by_default
from gridapps_client.text import plain, size, table


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
            each.created_at,
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
    """Your exports: list (the default), show, rename, delete."""


@exports.command("show")
@click.argument("pk")
@common
def exports_show(session: Session, pk: str) -> None:
    """Show an export and its files."""
    found = session.client.export(pk)
    rows = [
        (each.pk, each.name, f"{each.points:,}", size(each.filesize), each.crs or "-")
        for each in found.exportfiles
    ]
    session.result(
        {"exports": [found]},
        f"{plain(found.pk)}: {plain(found.name)}, owner {plain(found.user)}, {plain(found.created_at)}",
        table(("PK", "NAME", "POINTS", "SIZE", "CRS"), rows),
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
