"""Commands for what an instance stores: import exports, print the audit, remove what is not needed."""

from datetime import UTC, datetime
from pathlib import Path

import click

from gridapps.server import reserve
from gridapps.server.commands.terminal import call, user_named
from gridapps.server.instance import accounts_of, of_first_machine, prepare, usable


@click.command()
@click.option("--since", type=click.DateTime(), help="in UTC, included")
@click.option("--until", type=click.DateTime(), help="in UTC, not included")
def audit(since: datetime | None, until: datetime | None) -> None:
    """Print the audit as JSON lines: who did what, and who was refused (docs/audit.md)."""
    prepare()
    from gridapps.audit import queries

    found = queries.entries(
        since=since and since.replace(tzinfo=UTC), until=until and until.replace(tzinfo=UTC)
    )
    for line in queries.lines(found.iterator()):
        click.echo(line, nl=False)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--owner", required=True, help="the owner of the export")
@click.option("--name", required=True, help="name of the export")
def import_files(files: tuple[Path, ...], owner: str, name: str) -> None:
    """Import FILES (LAS, LAZ, COPC) as an export."""
    prepare(rights="")
    from gridapps.exports import operations

    export = call(operations.import_export, owner=user_named(owner), name=name, files=list(files))
    rows = list(export.files.order_by("pk"))
    click.echo(f"Export {export.pk}: {len(rows)} files, {sum(row.points for row in rows):,} points.")


@click.command()
@click.option("--dry-run", is_flag=True, help="list what would be removed, and remove nothing")
def tidy(dry_run: bool) -> None:
    """Remove at once what is no longer needed: images, exports and outputs (docs/housekeeping.md)."""
    settings = of_first_machine()
    with usable(settings.data.absolute()):
        reserve.settle(settings.data.absolute(), floor=settings.min_free_disk)
    prepare(rights="")
    from gridapps.pki.tokens import Registry
    from gridapps.pushes.disk import STORAGE
    from gridapps.server import layout
    from gridapps.server.accounts import acting_as
    from gridapps.server.housekeeper import JOBS, OF_WORKERS, alone
    from gridapps.server.importer import JOBS as OF_THE_IMPORTER

    ours = accounts_of(settings).found
    count = 0
    with alone(settings.data.absolute()):
        layout.open_blobs(settings.data.absolute() / STORAGE[Registry.DEVELOPER], accounts_of(settings))
        of_the_importer = [job for _, job in OF_THE_IMPORTER]
        for role, jobs in (("housekeeper", JOBS), ("importer", of_the_importer), ("worker", OF_WORKERS)):
            with acting_as(ours.get(role)):
                for job in jobs:
                    for line in call(lambda job=job: list(job.plan() if dry_run else job.run())):
                        click.echo(line)
                        count += 1
    click.echo(f"{count} would be removed." if dry_run else f"{count} removed.")
