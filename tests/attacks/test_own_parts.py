"""A compromised part of the instance, or a local account, attacks the supervisor, which is root."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, new_instance

MODULES = ("setproctitle", "msgspec", "click", "json", "gridapps", "uvicorn", "docker")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with planted modules, named like those that programs import."""
    directory = tmp_path_factory.mktemp("planted")
    for name in MODULES:
        (directory / f"{name}.py").write_text(f"open({str(directory / 'executed')!r}, 'a').write(__name__)\n")
    return directory


@pytest.fixture(scope="module")
def instance(engine: Engine, planted: Path) -> Iterator[Instance]:
    """Started in that directory, with a file of the operator open."""
    made = new_instance()
    (planted / "secret").write_text("of the operator")
    with (planted / "secret").open() as secret:
        try:
            made.start(cwd=planted, pass_fds=[secret.fileno()])
            made.wait_until(lambda: made.find("worker"), what="whole")  # it is the last one
            yield made
        finally:
            made.remove()


def test_modules_of_the_working_directory_are_not_executed(instance: Instance, planted: Path) -> None:
    assert not (planted / "executed").exists()


def test_no_part_has_the_files_that_the_operator_had_open(instance: Instance, planted: Path) -> None:
    processes = instance.processes()
    assert len(processes) > len(MODULES)
    for process in processes:
        if instance.process is not None and process == instance.process.pid:
            continue
        held = set()
        for each in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                held.add(each.readlink())
        assert planted / "secret" not in held, Path(f"/proc/{process}/cmdline").read_bytes()


def test_a_directory_in_the_place_of_a_question_ends_nothing(instance: Instance) -> None:
    question = instance.data / "run" / "housekeeper" / "open-blobs"
    question.mkdir()
    time.sleep(1.5)  # the supervisor looks twice a second
    assert instance.running
    question.rmdir()


def test_a_part_that_locks_its_file_is_started_again(instance: Instance) -> None:
    first = instance.part("promoter")
    with (instance.data / "run" / "promoter.held").open() as held:
        os.kill(first, signal.SIGKILL)
        fcntl.flock(held, fcntl.LOCK_EX)  # as a child process of the part could
        instance.wait_until(lambda: instance.find("promoter") not in {None, first}, what="started again")
    assert instance.answers()


def test_what_is_no_bell_does_not_keep_the_instance_from_starting(instance: Instance) -> None:
    (instance.data / "run" / "bells" / "directory").mkdir()
    assert instance.stop() == 0
    instance.start()
    instance.wait_until(lambda: instance.find("worker"), what="whole")
