"""The limits of the slice above all containers, with the systemd driver. A stand-in for systemctl records its
calls."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gridapps.sandbox import cgroup
from gridapps.sandbox.engine.responses import Info
from gridapps.sandbox.protocol import SandboxError

SYSTEMD = Info(cgroup_driver="systemd", cgroup_version="2")
Systemctl = Callable[[str], Path]


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    """Installs a systemctl that runs this script when it shows a unit; returns the file with its calls."""

    def install(shows: str) -> Path:
        program, calls = tmp_path / "systemctl", tmp_path / "calls"
        program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1" != show ] || {{ {shows}\n}}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return calls

    return install


def test_a_slice_without_limits_gets_them(systemctl: Systemctl) -> None:
    calls = systemctl("echo MemoryMax=infinity; echo TasksMax=infinity")
    assert cgroup.prepare(SYSTEMD, instance="my-city") == "gridapps_my_city.slice"
    most = f"MemoryMax={cgroup.memory_for_containers()} TasksMax=32768"
    assert calls.read_text().splitlines() == [
        "show --property=MemoryMax --property=TasksMax gridapps_my_city.slice",
        f"set-property --runtime gridapps_my_city.slice {most}",
    ]


def test_limits_of_the_operator_stay(systemctl: Systemctl) -> None:
    calls = systemctl("echo MemoryMax=1073741824; echo TasksMax=100")
    cgroup.prepare(SYSTEMD, instance="city")
    assert len(calls.read_text().splitlines()) == 1


def test_a_failure_of_systemd_is_reported(systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl("echo Access denied >&2; exit 1")
    with pytest.raises(SandboxError, match=r"`systemctl show .*` failed: Access denied"):
        cgroup.prepare(SYSTEMD, instance="city")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxError, match="No such file"):
        cgroup.prepare(SYSTEMD, instance="city")
