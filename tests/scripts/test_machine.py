"""scripts/machine says what is missing; it installs nothing when everything is there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MACHINE = Path(__file__).parents[2] / "scripts" / "machine"


def _bare_path(directory: Path, *, without: str) -> str:
    """A PATH with what the script itself calls and what it looks for, but for one program."""
    programs = (
        "bash env id sort dirname python3 apt-get docker docker-registry skopeo mmdebstrap losetup gcc ip"
    )
    for name in programs.split():
        found = shutil.which(name)
        if name != without and found:
            (directory / name).symlink_to(found)
    return str(directory)


def test_it_is_silent_when_everything_is_there():
    if not shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("this machine lacks the packages: scripts/machine")
    done = subprocess.run([MACHINE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_root_it_says_which_command_is_needed(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("needs root, to stop being it")
    path = _bare_path(tmp_path, without="skopeo")
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent, tmp_path.parent.parent.parent):
        directory.chmod(0o755)
    shutil.copy(MACHINE, tmp_path / "machine")
    done = subprocess.run(
        ["bash", str(tmp_path / "machine")], capture_output=True, text=True, check=False,
        env={"PATH": path}, user=65534, group=65534, extra_groups=[],
    )  # fmt: skip
    assert done.returncode == 1
    assert "As root: apt-get install --no-install-recommends" in done.stderr
    assert "skopeo" in done.stderr
    assert "mmdebstrap" not in done.stderr


def test_on_another_system_it_names_the_packages(tmp_path: Path):
    path = _bare_path(tmp_path, without="apt-get")
    (tmp_path / "skopeo").unlink(missing_ok=True)
    done = subprocess.run([MACHINE], capture_output=True, text=True, check=False, env={"PATH": path})
    assert done.returncode == 1
    assert "skopeo" in done.stderr
