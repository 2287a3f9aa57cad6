"""The data directory of an instance, and getting Django ready to work in it."""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ValidationError

from gridapps.config.environment import Environment
from gridapps.registry import membership
from gridapps.server import schema

OF_A_NODE = ("run", "log", "scratch", "images")
DIRECTORIES = (*OF_A_NODE, "registry", "trusted", "static", "authority")
SHARED = ("exports", "outputs")  # of the storage
_OF_THE_CLIENT = {f"GRIDAPPS_{name}" for name in ("URL", "TOKEN", "CA", "CONFIG")}


class Unusable(click.ClickException):
    """The instance cannot be used as it is set up; the message says what to do."""


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


def prepare() -> Environment:
    """Make the data directory where it is missing, set Django up, and bring the database up to date."""
    settings = environment()
    data = settings.data.absolute()
    if member := membership.read(data):
        raise Unusable(
            f"This machine is node {member.node} of the instance {member.authority}: do it on the first one."
        )
    with _usable(data):
        _make(data, DIRECTORIES)
        _write_once(data / "secret-key", secrets.token_urlsafe(48))
        _write_once(data / "instance-id", secrets.token_hex(4))
    _set_up_django(data)
    from django.db import OperationalError

    try:
        schema.migrate()
    except OperationalError as error:
        raise Unusable(f"The database cannot be used: {str(error).strip()}") from None
    if not settings.storage.startswith("s3://"):
        _make_shared(settings.shared)
    return settings


def prepare_worker(*, say: Callable[[str], None]) -> Environment:
    """Set Django up for a worker, on the first machine or another node; wait for database and schema."""
    settings = environment()
    data = settings.data.absolute()
    if member := membership.read(data):
        os.environ.setdefault("GRIDAPPS_NODE", member.node)
        settings = environment()
        _check_membership(settings, member)
        with _usable(data):
            _make(data, OF_A_NODE)
    elif not (data / "instance-id").exists():
        raise Unusable(
            f"The data directory {data} belongs to no instance yet. The first machine makes one with "
            "`gridapps-server up`. Another one joins it: `gridapps-server node add NAME > NAME.tar` on the "
            "first machine, and here `gridapps-server worker --join NAME.tar` (docs/cluster.md)."
        )
    _set_up_django(data)
    schema.wait(say=say)
    return settings


def prepare_look() -> Environment:
    """Set Django up to look at an instance, whether its database answers or not. Nothing is changed."""
    settings = environment()
    data = settings.data.absolute()
    if not (data / "run").is_dir():
        raise Unusable(f"There is no instance in the data directory {data}. Set GRIDAPPS_DATA.")
    _set_up_django(data)
    return settings


def _set_up_django(data: Path) -> None:
    """Make Django work in this data directory, here and in child processes."""
    os.environ["GRIDAPPS_DATA"] = str(data)
    os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
    import django

    django.setup()


def _check_membership(settings: Environment, member: membership.Membership) -> None:
    """A node shares database and storage with the first machine, and has the name of its certificate."""
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
    """The instance's own short name; it stands in the labels and names of its containers."""
    return (data / "instance-id").read_text()


@contextmanager
def _usable(data: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unusable(
            f"The data directory {data} cannot be used: {error.strerror}. Set GRIDAPPS_DATA."
        ) from None


def _make(data: Path, names: Sequence[str]) -> None:
    data.mkdir(mode=0o711, parents=True, exist_ok=True)
    for name in names:
        (data / name).mkdir(mode=0o750, exist_ok=True)


def _make_shared(storage: Path) -> None:
    """Make the storage's directories, but only in a new instance: else something is not mounted."""
    from gridapps.exports.models import Export

    for directory in (storage / name for name in SHARED):
        if directory.is_dir():
            continue
        if Export.objects.exists():
            raise Unusable(f"{directory} is missing: mount the storage, or set GRIDAPPS_STORAGE.")
        try:
            directory.mkdir(mode=0o750, exist_ok=True)
        except OSError as error:
            raise Unusable(
                f"The storage {storage} cannot be used: {error.strerror}. Mount it, or set GRIDAPPS_STORAGE."
            ) from None


def _write_once(path: Path, text: str) -> None:
    """Create the file whole or not at all; of two commands at once, one wins and both read the same."""
    if path.exists():
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(text)
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
