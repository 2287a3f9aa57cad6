"""Make an instance, or bring one of an older version up to date."""

import os
import secrets
from pathlib import Path

import click

from gridapps.config.environment import Environment
from gridapps.pki.authority import Authority
from gridapps.server import accounts, layout, reserve
from gridapps.server.accounts import Accounts
from gridapps.server.instance import (
    SHARED,
    Unusable,
    accounts_of,
    alone,
    migrate_database,
    set_up_django,
    settings_of_first_machine,
    unmounted,
    usable,
)


def create() -> Environment:
    """Make the instance, or what an older version lacks; set Django up; bring the database up to date.

    Only `up` and `init` do this: a mistyped GRIDAPPS_DATA must not make other commands create an instance.
    """
    settings = settings_of_first_machine()
    data = settings.data.absolute()
    cannot = accounts.make()
    with usable(data):
        layout.make_parents(data)
        if data.exists():
            reserve.settle(data, floor=settings.min_free_disk)
        ours = accounts_of(settings)
        layout.make(data, layout.OF_THE_INSTANCE, ours)
        _write_once(data / "secret-key", secrets.token_urlsafe(48))
        _write_once(data / "instance-id", secrets.token_hex(4))
        (data / layout.TIDY_LOCK).touch(mode=0o600)
        with alone(data):
            if not settings.database:
                layout.make_database(data)
            Authority.create_or_load(data / "authority", host=settings.host)
            layout.settle_files(data, ours)
    for sentence in (cannot, *ours.missing()):
        if sentence:
            click.echo(sentence, err=True)
    set_up_django(data)
    migrate_database()
    if not settings.storage.startswith("s3://"):
        _make_shared(settings.shared, ours)
    return settings


def _make_shared(storage: Path, ours: Accounts) -> None:
    """Make the storage's directories in a new instance. Once there are exports, a missing one is an error."""
    from gridapps.exports.models import Export

    for directory in (storage / name for name in SHARED):
        if not directory.is_dir() and Export.objects.exists():
            raise unmounted(directory)
    try:
        layout.make(storage, layout.OF_THE_STORAGE, ours)
    except OSError as error:
        raise Unusable(
            f"The storage {storage} cannot be used: {error.strerror}. Mount it, or set GRIDAPPS_STORAGE. A "
            "file server has to let root give directories away (no_root_squash)."
        ) from None


def _write_once(path: Path, text: str) -> None:
    """Create the file atomically unless it exists. Of two concurrent commands, both then read the same."""
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
