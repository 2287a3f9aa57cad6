"""The files in deploy/ match the program: the settings, files and commands that they name exist."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from gridapps.config.environment import Environment
from gridapps.launcher.confinement import NEEDED
from gridapps.server import accounts
from gridapps.server.cli import main

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"


def _settings_of(name: str) -> dict[str, str]:
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """The compose file as docker-compose understands it, with the example's settings."""
    if not shutil.which("docker-compose"):
        pytest.skip("docker-compose is not installed: scripts/machine test")
    given = {name: value or "example" for name, value in _settings_of(".env.example").items()}
    done = subprocess.run(
        ["docker-compose", "-f", str(DEPLOY / "compose.yaml"), "config"],
        env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    return dict(yaml.safe_load(done.stdout))


def _check_settings(settings: dict[str, str]) -> Environment:
    ours = {
        name.removeprefix("GRIDAPPS_").lower(): str(value)
        for name, value in settings.items()
        if name.startswith("GRIDAPPS_")
    }
    assert set(ours) <= set(Environment.model_fields)
    return Environment(**ours)  # type: ignore[arg-type]


def _check_command(words: list[str]) -> None:
    """Assert that `gridapps-server` accepts these words."""
    command, *options = words
    found = main.commands[command]
    with click.Context(found) as context:
        found.parse_args(context, list(options))


def test_the_servers_settings_are_real_and_valid(composed):
    found = _check_settings(composed["services"]["server"]["environment"])
    assert found.authority == "grid.example:5443"
    assert (found.database, found.broker, found.storage) != ("", "", "")


def test_the_settings_of_a_node_are_real_and_valid(composed):
    node = _check_settings(_settings_of("node.env.example"))
    first = _check_settings(composed["services"]["server"]["environment"])
    assert node.storage == first.storage
    ports = {
        name: [port["published"] for port in service["ports"]]
        for name, service in composed["services"].items()
    }
    assert ports == {"postgres": [5432], "rabbitmq": [5671], "server": [5443]}
    assert ":5671/" in node.broker
    assert ":5671/" in first.broker


def test_every_file_that_is_mounted_is_there_or_made_by_the_page(composed):
    page = (TOP / "docs" / "cluster.md").read_text()
    for service in composed["services"].values():
        for volume in service["volumes"]:
            source = Path(volume.partition(":")[0])
            if DEPLOY not in source.parents:
                continue
            made = source.relative_to(DEPLOY).parts[0] == "tls" and f"-out {source.name}" in page
            assert source.exists() or made or source.name == "tls", source


def test_the_image_is_built_of_files_that_are_there_and_starts_a_command_that_exists():
    text = (DEPLOY / "Dockerfile").read_text()
    for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (TOP / source).exists(), source
    _check_command(yaml.safe_load(text.rpartition("CMD ")[2]))


UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))
# The launcher is root, and must share the mount namespace of the engine.
EXPOSED = {"gridapps-launcher.service": 5.0, "gridapps.service": 3.0, "gridapps-worker.service": 2.0}


def _lines_of(name: str) -> list[tuple[str, str]]:
    """The options of a unit, also those that it has several times."""
    lines = (DEPLOY / name).read_text().splitlines()
    return [(key, value) for key, found, value in (line.partition("=") for line in lines) if found]


@pytest.mark.parametrize("name", UNITS)
def test_the_devices_of_a_unit_have_their_module_before_it_starts(name):
    """systemd leaves out a class of devices (block-loop) that the kernel does not have at the start."""
    options = _lines_of(name)
    for key, value in options:
        if key == "DeviceAllow" and (found := re.match(r"(?:block|char)-(\w+)", value)):
            loads = f"modprobe@{found[1]}.service"
            assert [loads in text.split() for option, text in options if option == "Wants"] == [True]
            assert [loads in text.split() for option, text in options if option == "After"] == [True]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_exists(name):
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / name)
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "gridapps-server"
    _check_command(words)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_confined(name):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", DEPLOY / name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert score, done.stderr
    assert float(score[1]) <= EXPOSED[name], done.stdout


def test_the_launchers_unit_leaves_it_what_it_needs():
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "gridapps-launcher.service")
    numbers = {"CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_KILL": 5, "CAP_SYS_ADMIN": 21}
    given = unit["Service"]["CapabilityBoundingSet"].split()
    assert {numbers.get(name) for name in given} >= set(NEEDED)
    begin = ("Private", "Protect", "ReadOnly", "ReadWrite", "Inaccessible", "Temporary", "Root", "Bind")
    found = [key for key in unit["Service"] if key.startswith(begin) and key != "ProtectHostname"]
    assert not found, f"{found} would give it a mount namespace of its own, which the engine does not see"


def test_the_accounts_are_those_of_the_program():
    lines = [line.split() for line in (DEPLOY / "sysusers.conf").read_text().splitlines()]
    users = {words[1] for words in lines if words[0] == "u"}
    assert users == {accounts.name(role) for role in accounts.GROUPS}
    members = {(words[1], words[2]) for words in lines if words[0] == "m"}
    assert members == {
        (accounts.name(role), accounts.name(group))
        for role, groups in accounts.GROUPS.items()
        for group in (accounts.EVERYBODY, *groups)
    }
    assert {words[1] for words in lines if words[0] == "g"} | users == {
        name for pair in members for name in pair
    } | users


def test_the_settings_of_the_first_machines_unit_are_real_and_valid():
    _check_settings(_settings_of("server.env.example"))


def test_the_commands_of_the_page_exist():
    page = (TOP / "docs" / "cluster.md").read_text()
    named = set(re.findall(r"gridapps-server ((?:node )?[a-z]+)", page.replace("\n", " ")))
    assert {"up", "worker", "node add", "node join", "node list", "node remove"} <= named
    for words in named:
        group: Any = main
        for word in words.split():
            assert word in group.commands, words
            group = group.commands[word]
