"""Commands for what an instance stores: import exports, print the audit, remove what is not needed."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from gridapps.server import reserve
from gridapps.server.commands.terminal import call, say, user_named
from gridapps.server.instance import accounts_of, prepare, settings_of_first_machine, usable

REMARKS_SHOWN = 50


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
@click.option("--skip-bad", is_flag=True, help="list files that cannot be imported, and import the others")
@click.option("--follow", is_flag=True, help="import the files that symbolic links point to")
def import_files(files: tuple[Path, ...], owner: str, name: str, skip_bad: bool, follow: bool) -> None:
    """Import FILES (LAS, LAZ, COPC) as an export. A repeated import reads no points twice."""
    prepare(rights="")
    from gridapps.exports import operations

    left_out: list[str] | None = [] if skip_bad else None
    with _progress(len(files)) as advance:
        export = call(
            operations.import_export, owner=user_named(owner), name=name, files=list(files),
            left_out=left_out, follow=follow, advance=advance,
        )  # fmt: skip
    rows = list(export.files.order_by("pk"))
    for line in left_out or []:
        say(f"Left out: {line}")
    remarks: dict[str, list[str]] = {}
    for row in rows:
        for remark in row.remarks:
            remarks.setdefault(remark, []).append(row.name)
    for remark, names in list(remarks.items())[:REMARKS_SHOWN]:
        click.echo(f"{names[0] if len(names) == 1 else f'{len(names)} files'}: {remark}")
    if len(remarks) > REMARKS_SHOWN:
        click.echo(f"{len(remarks) - REMARKS_SHOWN} more remarks: gridapps exports show {export.pk}")
    skipped = f" {len(left_out)} left out." if left_out else ""
    click.echo(f"Export {export.pk}: {len(rows)} files, {sum(row.points for row in rows):,} points.{skipped}")


@contextmanager
def _progress(files: int) -> Iterator[Callable[[int], None]]:
    """A function to call with a number of files that are done, which a terminal shows."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=files, label="Files", file=sys.stderr) as bar:
        yield bar.update


@click.command()
@click.option("--dry-run", is_flag=True, help="list what would be removed, and remove nothing")
def tidy(dry_run: bool) -> None:
    """Remove at once what is no longer needed: images, exports and outputs (docs/housekeeping.md)."""
    settings = settings_of_first_machine()
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
