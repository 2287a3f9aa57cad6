"""The data directory of an instance, and setting Django up to work in it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ValidationError

from gridapps.config.environment import Environment
from gridapps.pki import membership
from gridapps.server import accounts, layout, schema
from gridapps.server.accounts import Accounts

SHARED = ("exports", "outputs")  # of the storage
_OF_THE_CLIENT = {f"GRIDAPPS_{name}" for name in ("URL", "TOKEN", "CA", "CONFIG")}


class Unusable(click.ClickException):
    """The instance cannot be used as configured; the message says what to do."""


def environment() -> Environment:
    """The operator's settings, or Unusable with a sentence for each that is wrong."""
    try:
        settings = Environment()
    except ValidationError as error:
        lines = [f"GRIDAPPS_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise Unusable(
            "These settings are wrong (docs/settings.md lists all):\n  " + "\n  ".join(lines)
        ) from None
    known = _OF_THE_CLIENT | {f"GRIDAPPS_{name.upper()}" for name in Environment.model_fields}
    if unknown := sorted(name for name in os.environ if name.startswith("GRIDAPPS_") and name not in known):
        raise Unusable(f"There is no setting {', '.join(unknown)} (docs/settings.md lists all).")
    return settings


def accounts_of(settings: Environment) -> Accounts:
    """The accounts under which the parts of this instance run: those that can reach its directories."""
    directories = [settings.data.absolute()]
    if settings.storage.startswith("/"):
        directories.append(settings.shared)
    return accounts.find(*directories)


def prepare(*, migrate: bool = False, rights: str = "application") -> Environment:
    """Set Django up for a command of the first machine. Raises Unusable when there is no instance, or when
    its database is older than this program; `migrate` brings it up to date instead.

    A command that root starts continues under the account of the part `rights`, so that parts can write the
    files it makes. Empty: it stays root, for commands that read the operator's own files.
    """
    settings = settings_of_first_machine()
    data = settings.data.absolute()
    _require_instance(data)
    if rights:
        accounts.become(accounts_of(settings).found.get(rights))
    set_up_django(data)
    if migrate:
        migrate_database()
    else:
        _check_schema()
    if not settings.storage.startswith("s3://"):
        for directory in (settings.shared / name for name in SHARED):
            if not directory.is_dir():
                raise unmounted(directory)
    return settings


def settings_of_first_machine() -> Environment:
    """The settings of the first machine. Raises Unusable on another node."""
    settings = environment()
    if member := membership.load(settings.data.absolute()):
        raise Unusable(
            f"This machine is node {member.node} of the instance {member.authority}: use the first machine."
        )
    return settings


def _require_instance(data: Path) -> None:
    if not (data / "instance-id").exists():
        raise Unusable(
            f"There is no instance in the data directory {data}. Set GRIDAPPS_DATA, or make an instance: "
            "gridapps-server init"
        )
    if (data / layout.DATABASE_OF_OLD).is_file():
        raise Unusable(
            f"The instance in {data} is of an older version: gridapps-server init brings it up to date."
        )


def migrate_database() -> None:
    """Bring the database up to date, or raise Unusable."""
    with _answering():
        schema.migrate()


def _check_schema() -> None:
    try:
        with _answering():
            schema.check()
    except schema.Behind as behind:
        raise Unusable(str(behind)) from None


@contextmanager
def _answering() -> Iterator[None]:
    from django.db import OperationalError

    try:
        yield
    except OperationalError as error:
        raise Unusable(f"The database cannot be used: {str(error).strip()}") from None


def prepare_node() -> Environment:
    """Make what is missing in a node's data directory. Raises Unusable when this machine is not a node."""
    settings = environment()
    data = settings.data.absolute()
    if member := membership.load(data):
        os.environ.setdefault("GRIDAPPS_NODE", member.node)
        settings = environment()
        _check_membership(settings, member)
        if os.access(data, os.W_OK):  # otherwise this is a part, and its parent has made it
            accounts.make()
            with usable(data):
                ours = accounts_of(settings)
                layout.make(data, layout.OF_A_MEMBER, ours)
                layout.settle_files(data, ours)
    elif not (data / "instance-id").exists():
        raise Unusable(
            f"The data directory {data} belongs to no instance yet. The first machine makes one with "
            "`gridapps-server up`. Another one joins it: `gridapps-server node add NAME > NAME.tar` on the "
            "first machine, and here `gridapps-server worker --join NAME.tar` (docs/cluster.md)."
        )
    return settings


def prepare_worker(*, say: Callable[[str], None], rights: str = "") -> Environment:
    """Set Django up for a part, on the first machine or another node; wait for database and schema.

    `rights` names the part under whose account root continues. Parts that `up` starts have it already.
    """
    settings = prepare_node()
    if rights:
        accounts.become(accounts_of(settings).found.get(rights))
    set_up_django(settings.data.absolute())
    schema.wait(say=say)
    return settings


def prepare_look() -> Environment:
    """Set Django up to examine an instance, whether or not its database answers. Changes nothing."""
    settings = environment()
    data = settings.data.absolute()
    if membership.load(data) is None:
        _require_instance(data)
    set_up_django(data)
    return settings


def set_up_django(data: Path) -> None:
    """Set Django up for this data directory, here and in child processes."""
    os.environ["GRIDAPPS_DATA"] = str(data)
    os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
    import django
    from django.conf import settings

    if settings.configured:
        from gridapps.config import renewal

        renewal.renew()
    django.setup()


def _check_membership(settings: Environment, member: membership.Membership) -> None:
    """Check that a node shares the first machine's database and storage, and has its certificate's name."""
    if settings.node != member.node:
        raise Unusable(f"This machine has joined as node {member.node!r}, not {settings.node!r}.")
    if not settings.database:
        raise Unusable(
            "A node apart from the first machine needs the instance's PostgreSQL: set GRIDAPPS_DATABASE as "
            "there. SQLite works on one machine only."
        )
    if not settings.storage:
        raise Unusable(
            "A node apart from the first machine needs the instance's exports and outputs: set "
            "GRIDAPPS_STORAGE as there (docs/storage.md)."
        )


def identity(data: Path) -> str:
    """The instance's short id, part of the labels and names of its containers."""
    return (data / "instance-id").read_text()


@contextmanager
def alone(data: Path) -> Iterator[int]:
    """Hold the lock of the instance; its descriptor. Raises Unusable while the instance runs, and OSError."""
    path = data / "run" / "instance.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unusable(f"This instance is running already (data directory {data}).") from None
        yield lock
    finally:
        os.close(lock)


@contextmanager
def usable(data: Path) -> Iterator[None]:
    """Turn an OSError about the data directory into Unusable."""
    try:
        yield
    except OSError as error:
        raise Unusable(
            f"The data directory {data} cannot be used: {error.strerror}. Set GRIDAPPS_DATA."
        ) from None


def unmounted(directory: Path) -> Unusable:
    """The error for a missing directory of the storage."""
    return Unusable(f"{directory} is missing: mount the storage, or set GRIDAPPS_STORAGE.")
