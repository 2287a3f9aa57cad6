"""Which commands make an instance, and that its data is closed to other accounts, whatever the umask."""

import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.instance import SERVER, Instance, new_instance

COMMANDS = (
    ("user", "create", "ann"),
    ("user", "verify", "ann"),
    ("token", "ann"),
    ("tag", "create", "roads"),
    ("tag", "give", "roads", "ann"),
    ("audit",),
    ("tidy", "--dry-run"),
    ("migrate",),
    ("import", "cloud.laz", "--owner", "ann", "--name", "city"),
    ("node", "add", "other"),
    ("node", "list"),
    ("status",),
    ("worker",),
    ("courier",),
    ("promoter",),
    ("housekeeper",),
    ("importer",),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_other_command_makes_an_instance(tmp_path: Path, words: tuple[str, ...]) -> None:
    place = tmp_path / "mistyped"
    done = _run(Instance(place, {}), *words)
    assert done.returncode == 1
    assert str(place) in done.stderr
    assert not place.exists()


def test_without_a_setting_nothing_is_made_here(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRIDAPPS_")}
    done = subprocess.run(
        [SERVER, "user", "create", "ann"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "There is no instance" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_init_makes_is_closed_whatever_the_umask() -> None:
    made = new_instance()
    try:
        done = _run(made, "init", umask=0)
        assert done.returncode == 0, done.stderr
        assert "ready" in done.stdout
        assert _run(made, "user", "create", "ann", umask=0).returncode == 0
        assert open_to_others(made.data) == []
    finally:
        made.remove()


def test_the_data_directory_of_an_older_version_is_closed() -> None:
    made = new_instance()
    try:
        assert _run(made, "init").returncode == 0
        assert _run(made, "user", "create", "ann").returncode == 0
        _make_old(made.data)
        refused = _run(made, "user", "create", "bea")
        assert (refused.returncode, "gridapps-server init" in refused.stderr) == (1, True), refused.stderr
        assert _run(made, "init").returncode == 0
        assert open_to_others(made.data) == []
        assert not (made.data / "gridapps.sqlite3").exists()
        taken = _run(made, "user", "create", "ann")
        assert (taken.returncode, "ann" in taken.stderr) == (1, True), "its users are still there"
    finally:
        made.remove()


def _make_old(data: Path) -> None:
    """A data directory of version 0.1 under umask 022, killed with a write-ahead log that is not merged."""
    for name in ("gridapps.sqlite3", "gridapps.sqlite3-wal", "gridapps.sqlite3-shm"):
        if (place := data / "database" / name).exists():
            place.rename(data / name)
            (data / name).chmod(0o644)
    with closing(sqlite3.connect(data / "gridapps.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM access_user").fetchone() == (1,)
    data.chmod(0o755)
    for directory in ("run", "log", "authority", "database", "outputs", "exports", "registry", "trusted"):
        (data / directory).chmod(0o755)


def open_to_others(data: Path) -> list[str]:
    """What any account of the machine can read or list below a directory, by the modes along the path."""
    if not data.stat().st_mode & stat.S_IXOTH:
        return [str(data)] if data.stat().st_mode & 0o006 else []
    found = []
    for top, directories, files in os.walk(data):
        for name in files:
            path = Path(top, name)
            if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_mode & 0o006:
                found.append(str(path))
        found += [str(Path(top, name)) for name in directories if Path(top, name).stat().st_mode & 0o006]
        directories[:] = [name for name in directories if Path(top, name).stat().st_mode & stat.S_IXOTH]
    return found


def _run(instance: Instance, *words: str, umask: int = 0o022) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [SERVER, *words],
        env=instance.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        umask=umask,
    )
