"""Each part runs under its own account without privileges; the account gets at what it needs and no more."""

import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridapps.server import accounts, rights
from gridapps.server.accounts import Account
from gridapps.server.layout import OPEN_BLOBS
from gridapps.server.rights import EVERYBODY_READS, RIGHTS, Rights
from gridapps.server.surroundings import SECRETS
from tests.fixtures.instance import Instance, new_instance
from tests.instance.conftest import SetStage

pytestmark = pytest.mark.system
DOCS = Path(__file__).parents[2] / "docs" / "security.md"
SECRET = "secret-of-this-test"
# Tries to read, and asks whether it could write, each path that it is given.
PROBE = """
import json, os, stat, sys
found = {}
for path in json.load(sys.stdin):
    rights = ""
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(path)
        elif stat.S_ISREG(mode):
            os.close(os.open(path, os.O_RDONLY))
        elif not os.access(path, os.W_OK, effective_ids=True):  # to connect to a socket is to write
            raise PermissionError
        rights += "r"
    except PermissionError:
        pass
    except FileNotFoundError:
        continue
    if os.access(path, os.W_OK, effective_ids=True):
        rights += "w"
    found[path] = rights
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def instance(set_stage: SetStage) -> Iterator[Instance]:
    """An instance with something in each of its directories, and secrets in its settings."""
    made = new_instance(metrics_token=SECRET, scanner="true")
    made.settings["AWS_SECRET_ACCESS_KEY"] = SECRET
    try:
        made.start()
        stage = set_stage(made)
        stage.developer.wait(stage.submit("summary"), "SUCCESS")
        if together := accounts.find(made.data).together:
            pytest.skip(f"{together} Make the environment again: rm -rf .venv")
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def everything(instance: Instance) -> list[str]:
    """Every path of the data directory, once the supervisor has opened the blobs to the housekeeper."""
    (instance.data / OPEN_BLOBS).touch()
    instance.wait_until(lambda: not (instance.data / OPEN_BLOBS).exists(), what="opened the blobs")
    return [str(instance.data), *(str(path) for path in instance.data.rglob("*"))]


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("role", RIGHTS)
def test_a_part_has_its_account_and_no_privilege(instance: Instance, role: str) -> None:
    account = accounts.find(instance.data).found[role]
    pid = instance.part(role)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (pid, *map(int, children)):
        found = _status(process)
        assert set(found["Uid"].split()) == {str(account.uid)}
        assert set(found["Gid"].split()) == {str(account.gid)}
        assert set(found["Groups"].split()) == set(map(str, account.groups))
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(found[name], 16) == 0, (role, name)
        assert found["NoNewPrivs"] == "1"
        assert int(found["Umask"], 8) & 0o007 == 0o007
        limits = Path(f"/proc/{process}/limits").read_text()
        assert re.search(r"Max core file size +0 +0 ", limits), limits


@pytest.mark.parametrize("role", RIGHTS)
def test_a_part_knows_no_secret_that_it_does_not_need(instance: Instance, role: str) -> None:
    environment = Path(f"/proc/{instance.part(role)}/environ").read_bytes().split(b"\0")
    names = {each.partition(b"=")[0].decode() for each in environment}
    for secret, parts in SECRETS.items():
        known = {
            name for name in names if name == secret or (secret.endswith("_") and name.startswith(secret))
        }
        assert not known or role in parts, known
    if role not in SECRETS["GRIDAPPS_METRICS_TOKEN"] | SECRETS["AWS_"]:
        assert not any(SECRET.encode() in each for each in environment)


@pytest.mark.parametrize("role", RIGHTS)
def test_an_account_gets_at_what_it_needs_and_at_nothing_else(
    instance: Instance, everything: list[str], role: str
) -> None:
    found = _probe(accounts.find(instance.data).found[role], everything)
    wrong = {
        os.path.relpath(path, instance.data): (has, wanted)
        for path, has in found.items()
        if has != (wanted := _wanted(os.path.relpath(path, instance.data), RIGHTS[role]))
    }
    assert wrong == {}


def test_another_account_of_the_machine_gets_at_nothing(instance: Instance, everything: list[str]) -> None:
    nobody = pwd.getpwnam("nobody")
    found = _probe(Account("nobody", nobody.pw_uid, nobody.pw_gid, ()), everything)
    assert {path for path, has in found.items() if has} == set()


def test_the_table_in_the_documentation_is_the_one_that_is_tried() -> None:
    assert "\n".join(rights.table()) in DOCS.read_text()


def _probe(account: Account, paths: list[str]) -> dict[str, str]:
    command = [*accounts.command(account), sys.executable, "-c", PROBE]
    done = subprocess.run(command, input=json.dumps(paths), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _wanted(path: str, its: Rights) -> str:
    """The rights that the table gives on a path."""
    if path in EVERYBODY_READS:
        return "r"
    if re.fullmatch(r"exports/[^/]+/[^/]+", path):  # nobody changes an export file
        return "r" if "exports" in its.reads + its.writes else ""
    for names, wanted in ((its.writes, "rw"), (its.reads, "r")):
        if any(path == name or path.startswith(f"{name}/") for name in names):
            return wanted
    return ""
