"""The doctor's checks of settings: signature keys, the scanner, limits of the engine."""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from pydantic import ValidationError

from gridapps.config.environment import Environment
from gridapps.server import accounts, engine_limits
from gridapps.server.doctor import Finding, examine
from tests.registry import signing


def findings(tmp_path: Path, **settings: object) -> dict[str, Finding]:
    environment = Environment(**{"data": tmp_path, **settings})  # type: ignore[arg-type]
    return {finding.check: finding for finding in examine(environment, works=False)}


def test_keys_and_scanner_that_are_there(tmp_path: Path) -> None:
    signing.write_public(ed25519.Ed25519PrivateKey.generate(), tmp_path / "release.pub")
    keys = tmp_path / "release.pub"
    found = findings(tmp_path, signature_keys=str(keys), require_signature=True, scanner="sh -c 'exit 0'")
    assert (found["signature keys"].detail, found["signature keys"].fault) == (
        "release, and shares demand one", "",
    )  # fmt: skip
    assert found["scanner"].fault == ""
    found = findings(tmp_path)
    assert (found["signature keys"].detail, found["scanner"].detail) == ("none", "none")


def test_keys_and_scanner_that_are_not(tmp_path: Path) -> None:
    found = findings(tmp_path, signature_keys=str(tmp_path), scanner="no-such-program --input {}")
    assert "contains no public key" in found["signature keys"].fault
    assert "There is no program no-such-program" in found["scanner"].fault


@pytest.mark.parametrize(
    "settings",
    [
        {"require_signature": True},
        {"scanner": "unclosed 'quote"},
        {"scanner": "  "},
        {"scanner": "./scan.sh"},
        {"scanner_timeout": 0},
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Environment(**settings)  # type: ignore[arg-type]


def test_the_limit_of_an_engines_memory_is_the_least_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both versions of control groups."""
    monkeypatch.setattr(engine_limits, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(engine_limits, "_CGROUPS", tmp_path / "groups")
    (tmp_path / "proc" / "7").mkdir(parents=True)
    cgroup = tmp_path / "proc" / "7" / "cgroup"

    cgroup.write_text("0::/system.slice/docker.service\n")
    service = tmp_path / "groups" / "system.slice" / "docker.service"
    service.mkdir(parents=True)
    assert engine_limits.memory_limit(7) is None
    (service / "memory.max").write_text("max\n")
    assert engine_limits.memory_limit(7) is None
    (service / "memory.max").write_text("3000\n")
    assert engine_limits.memory_limit(7) == 3000
    (service.parent / "memory.max").write_text("2000\n")
    assert engine_limits.memory_limit(7) == 2000

    cgroup.write_text("5:cpu,cpuacct:/engine\n4:memory:/engine\n0::/\n")
    old = tmp_path / "groups" / "memory" / "engine"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert engine_limits.memory_limit(7) is None
    (old / "memory.limit_in_bytes").write_text("4000\n")
    assert engine_limits.memory_limit(7) == 4000


def test_this_instances_own_ports_are_no_fault(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert "Cannot listen" in findings(tmp_path, port=port)["TLS port"].fault
        (tmp_path / "run").mkdir()
        with (tmp_path / "run" / "nginx.held").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            found = findings(tmp_path, port=port)["TLS port"]
        assert (found.fault, "used by this instance" in found.detail) == ("", True)


def test_a_directory_that_accounts_cannot_reach_is_a_warning(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts parts under accounts")
    accounts.make()
    tmp_path.chmod(0o700)
    found = findings(tmp_path, data=tmp_path / "data")["accounts"]
    assert found.fault == ""
    assert f"{tmp_path} is closed" in found.warning or "pytest" in found.warning
    assert "nginx" in found.warning


def test_a_file_that_its_part_cannot_read_is_a_fault() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts parts under accounts")
    accounts.make()
    place = Path(tempfile.mkdtemp())
    if "courier" not in accounts.find(place).found:
        pytest.skip("the interpreter is closed to accounts")
    closed = Path(tempfile.mkdtemp())
    found = findings(place, hook_ca=str(closed / "ca.crt"))
    assert f"{closed} is closed to gridapps-courier" in found["GRIDAPPS_HOOK_CA"].fault
