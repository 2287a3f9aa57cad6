"""The `gridapps-server` command."""

import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from gridapps.server.instance import (
    Unusable,
    accounts_of,
    create,
    environment,
    prepare,
    prepare_look,
    prepare_node,
    prepare_worker,
)
from gridapps.server.join import join
from gridapps.server.node_commands import BUNDLE, certificates_option, node


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gridapps")
def main() -> None:
    """Run and administer an instance of GRiD Apps. Settings: GRIDAPPS_* variables."""
    os.umask(0o077)  # what others may read is said where it is made


main.add_command(node)


@main.command()
@click.option(
    "--no-worker", is_flag=True, help="leave all work to other nodes; no container engine is needed"
)
def up(no_worker: bool) -> None:
    """Start the instance and stay until interrupted."""
    # From the first moment on: an exception in the middle of an import may be swallowed there, and be lost.
    interrupted = _heed_interrupts()
    settings = create()
    from gridapps.server.up import up as run

    run(settings, works=not no_worker, interrupted=interrupted, say=_say)


@main.command()
def init() -> None:
    """Make the instance in GRIDAPPS_DATA, or bring one of an older version up to date. `up` does so too."""
    settings = create()
    click.echo(f"The instance in {settings.data.absolute()} is ready: gridapps-server up starts it.")


@main.command()
def migrate() -> None:
    """Bring the database up to date, on the first machine. `up` does so by itself."""
    prepare(migrate=True)
    click.echo("The database is up to date.")


@main.command()
@click.option("--no-worker", is_flag=True, help="this machine leaves all work to other nodes")
def doctor(no_worker: bool) -> None:
    """Check engine, programs, permissions, disk and ports, and say what to do."""
    from gridapps.server.doctor import examine

    faults = 0
    for finding in examine(environment(), works=not no_worker):
        faults += bool(finding.fault)
        state = "FAULT" if finding.fault else "warn" if finding.warning else "ok"
        click.echo(f"{state:6}{finding.check:18}{finding.detail}")
        if said := finding.fault or finding.warning:
            click.echo(f"      {said}")
    sys.exit(1 if faults else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON and nothing else")
def status(as_json: bool) -> None:
    """Show parts, queue, running tasks, nodes and hooks. Exit status 1: something of it is down."""
    settings = prepare_look()
    from gridapps.server import status as page

    found = page.examine(settings)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(page.shown(found)))
    sys.exit(0 if page.healthy(found) else 1)


@main.command()
@click.option("--node", "name", help="name of this node  [default: GRIDAPPS_NODE, or the one it joined as]")
@click.option("--join", "bundle", type=BUNDLE, help="make this machine a node first: see `node join`")
@certificates_option
@click.option("--no-launcher", is_flag=True, help="use a launcher that was started apart")
def worker(name: str | None, bundle: BinaryIO | None, certificates: Path, no_launcher: bool) -> None:
    """Work on this node until interrupted (`up` starts one by itself), with a launcher beside it.

    Waits for as long as the database is away or its schema is older than this program.
    """
    if bundle is not None:
        join(environment().data.absolute(), bundle.read(), certificates=certificates, say=_say)
    if name is not None:
        os.environ["GRIDAPPS_NODE"] = name
    if not no_launcher:
        _work_with_launcher()
    settings = prepare_worker(say=_say)
    from gridapps.runs.errors import NodeTaken
    from gridapps.server.node import hearing, worker_of

    with worker_of(settings, say=_say) as mine, hearing(settings):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: mine.stop())
        try:
            mine.run()
        except NodeTaken as error:
            raise Unusable(str(error)) from None


def _work_with_launcher() -> NoReturn:
    """Be the parent of launcher and worker."""
    settings = prepare_node()
    from gridapps.server import accounts, surroundings
    from gridapps.server.launching import stand_beside

    ours = accounts_of(settings)
    for sentence in ours.missing({"worker"}):
        _say(sentence)
    os.environ["GRIDAPPS_NODE"] = settings.node
    command = [sys.executable, "-P", "-m", "gridapps.server.cli", "worker", "--no-launcher"]
    sys.exit(
        stand_beside(
            settings,
            owner=ours.uid("worker"),
            worker=[*accounts.command(ours.found.get("worker")), *command],
            environment=surroundings.of_part("worker", settings, account=ours.found.get("worker")),
        )
    )


@main.command()
def launcher() -> None:
    """Start containers for this node's worker until interrupted, as root (`worker` starts one by itself).

    It is the only process of a node that needs to be root. It has no network and no database.
    """
    settings = prepare_node()
    from gridapps.server.launching import clean_environment, configuration

    command = configuration(settings, owner=accounts_of(settings).uid("worker")).command(sys.executable)
    os.execve(command[0], command, clean_environment())  # noqa: S606 - it takes this process's place


@main.command(hidden=True)
@click.option("--socket", type=click.Path(path_type=Path), required=True)
def application(socket: Path) -> None:
    """Serve pages and API at a unix socket until interrupted (`up` starts some by itself)."""
    prepare_worker(say=_say)
    from gridapps.server.application import serve

    serve(socket)


@main.command()
def courier() -> None:
    """Deliver what hooks are told of until interrupted (`up` starts one by itself).

    Any node may run more of them. Waits for as long as the database is away or its schema is older.
    """
    settings = prepare_worker(say=_say, rights="courier")
    from gridapps.server.courier import courier_of

    mine = courier_of(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: mine.stop())
    mine.run()


@main.command()
def promoter() -> None:
    """Copy shared releases into the trusted registry until interrupted (`up` starts one by itself)."""
    prepare_worker(say=_say, rights="promoter")
    from gridapps.promotion.promoter import Promoter

    mine = Promoter()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: mine.stop())
    mine.run()


@main.command()
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


@main.command()
def housekeeper() -> None:
    """Periodically remove unneeded images and leftovers, until interrupted (`up` starts one by itself)."""
    settings = prepare_worker(say=_say, rights="housekeeper")
    from gridapps.server.housekeeper import keep_house

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    keep_house(settings.data.absolute())


@main.group()
def tag() -> None:
    """Access tags: create them, give them to users, take them back."""


@tag.command("create")
@click.argument("name")
@click.option("--description", default="", help="what it covers, for administrators")
def create_tag(name: str, description: str) -> None:
    """Create the access tag NAME."""
    prepare()
    from gridapps.access import operations

    _do(operations.create_tag, by=None, name=name, description=description)
    click.echo(f"Access tag {name} created.")


@tag.command("give")
@click.argument("name")
@click.argument("usernames", nargs=-1, required=True)
def give_tag(name: str, usernames: tuple[str, ...]) -> None:
    """Give the access tag NAME to users."""
    prepare()
    from gridapps.access import operations

    _do(operations.give_tag, by=None, name=name, users=[_user(username) for username in usernames])
    click.echo(f"{', '.join(usernames)}: given {name}.")


@tag.command("take")
@click.argument("name")
@click.argument("usernames", nargs=-1, required=True)
def take_tag(name: str, usernames: tuple[str, ...]) -> None:
    """Take the access tag NAME from users. What they have queued with it does not start any more."""
    prepare()
    from gridapps.access import operations

    _do(operations.take_tag, by=None, name=name, users=[_user(username) for username in usernames])
    click.echo(f"{', '.join(usernames)}: {name} taken back.")


@main.group()
def user() -> None:
    """Create users, verify developers."""


@user.command("create")
@click.argument("username")
@click.option("--admin", is_flag=True, help="an administrator of the instance")
@click.option("--password-stdin", is_flag=True, help="read a password for the browser from standard input")
def create_user(username: str, admin: bool, password_stdin: bool) -> None:
    """Create USERNAME. Without a password only tokens work."""
    prepare()
    from gridapps.access import operations

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    _do(operations.create_user, by=None, username=username, password=password, administrator=admin)
    click.echo(f"User {username} created.")


@user.command("verify")
@click.argument("username")
def verify_user(username: str) -> None:
    """Verify USERNAME as a developer, who may then hold certificates and push images."""
    prepare()
    from gridapps.access import operations

    _do(operations.verify_developer, user=_user(username), by=None)
    click.echo(f"{username} is a verified developer.")


@main.command()
@click.argument("username")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="validity")
@click.option("--scope", "scopes", multiple=True, default=("api",), show_default=True, help="may be repeated")
def token(username: str, days: int, scopes: tuple[str, ...]) -> None:
    """Print an access token with which USERNAME can use the API.

    Scopes: `api` is everything but `admin`, which administrators need for what only they may do; docs/api.md
    lists narrower ones.
    """
    prepare()
    from gridapps.access import operations
    from gridapps.access.scopes import SCOPES

    if unknown := set(scopes) - SCOPES.keys():
        raise Unusable(f"There is no scope {min(unknown)!r}. Choose among {', '.join(SCOPES)}.")
    user = _user(username)
    click.echo(operations.issue_token(by=None, user=user, lifetime=timedelta(days=days), scopes=scopes))


@main.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--owner", required=True, help="the user whom the export will belong to")
@click.option("--name", required=True, help="name of the export")
def import_files(files: tuple[Path, ...], owner: str, name: str) -> None:
    """Take FILES (LAS, LAZ, COPC) as an export."""
    prepare(rights="")
    from gridapps.exports import operations

    export = _do(operations.import_export, owner=_user(owner), name=name, files=list(files))
    rows = list(export.files.order_by("pk"))
    click.echo(f"Export {export.pk}: {len(rows)} files, {sum(row.points for row in rows):,} points.")


@main.command()
@click.option("--dry-run", is_flag=True, help="remove nothing, and list what would go")
def tidy(dry_run: bool) -> None:
    """Remove at once what is not needed any more: images, exports and outputs.

    docs/housekeeping.md says what that is.
    """
    settings = prepare(rights="")
    from gridapps.pki.tokens import Registry
    from gridapps.pushes.disk import STORAGE
    from gridapps.server import layout
    from gridapps.server.accounts import acting_as
    from gridapps.server.housekeeper import JOBS, OF_WORKERS, alone

    ours = accounts_of(settings).found
    count = 0
    with alone(settings.data.absolute()):
        layout.open_blobs(settings.data.absolute() / STORAGE[Registry.DEVELOPER], accounts_of(settings))
        for role, jobs in (("housekeeper", JOBS), ("worker", OF_WORKERS)):
            with acting_as(ours.get(role)):
                for job in jobs:
                    for line in _do(lambda job=job: list(job.run(dry_run=dry_run))):
                        click.echo(line)
                        count += 1
    click.echo(f"{count} would be removed." if dry_run else f"{count} removed.")


def _heed_interrupts() -> threading.Event:
    """An event that the first SIGINT or SIGTERM sets. The second one ends the command at once."""
    interrupted = threading.Event()

    def note(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return interrupted


def _do(operation: Any, **arguments: Any) -> Any:
    """Call an operation; what it refuses becomes one sentence and exit status 1."""
    from gridapps.access.refusals import Refused
    from gridapps.storage.interface import StorageUnavailable

    try:
        return operation(**arguments)
    except (Refused, StorageUnavailable, OSError) as error:
        raise Unusable(str(error)) from None


def _user(username: str) -> Any:
    from gridapps.access.models import User

    found = User.objects.filter(username=username).first()
    if found is None:
        raise Unusable(f"There is no user {username!r}. Create one: gridapps-server user create {username}")
    return found


def _say(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
