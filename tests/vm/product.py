"""This tree, installed as an administrator does it: in a virtual environment of Debian 13's Python."""

import subprocess
import sys
from pathlib import Path

from tests.fixtures.cache import kept
from tests.fixtures.roots import root
from tests.vm.disk import SUITE, disk_of

TOP = Path(__file__).parents[2]
PYTHON = "3.13"
_UV = Path(sys.executable).with_name("uv")
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (17, 24, 26, 27, 28, 31, 34)]


def product_disk(directory: Path, *, base: Path) -> Path:
    """A disk with the content of /opt/gridapps: the environment, and `deploy`. `base`: the machine's tree."""
    wheels = directory / "wheels"
    for project in (TOP, TOP / "client"):
        _run(_UV, "build", "--quiet", "--wheel", "--out-dir", wheels, project)
    needed = _wheels_of_others()
    with root(SUITE, wheels, needed, base=base) as release:
        for command in (
            ("python3", "-m", "venv", "/opt/gridapps"),
            ("/opt/gridapps/bin/pip", "install", "--quiet", "--isolated", "--no-index",
             f"--find-links={needed}", f"--find-links={wheels}", "gridapps", "gridapps-client"),
        ):  # fmt: skip
            status, printed = release.run(*command, limit=1800)
            assert status == 0, printed
        installed = release.path("/opt/gridapps")
        _run("cp", "-r", TOP / "deploy", installed)
        return disk_of(installed, directory / "product", label="gridapps", size="1G")


def _wheels_of_others() -> Path:
    """A directory with the wheels that both distributions need, in the versions of requirements.lock."""
    named = subprocess.run(
        [_UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes",
         "--python-version", PYTHON, "--constraint", "requirements.lock", "pyproject.toml",
         "client/pyproject.toml"],
        cwd=TOP, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    return kept("wheels/trixie", named, lambda directory: _download(named, directory))


def _download(named: str, directory: Path) -> None:
    directory.mkdir()
    requirements = directory / "requirements.txt"
    requirements.write_text(named)
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
        "--requirement", requirements, "--dest", directory, "--only-binary", ":all:",
        "--python-version", PYTHON, "--implementation", "cp",
        *("--abi", f"cp{PYTHON.replace('.', '')}", "--abi", "abi3", "--abi", "none"),
        *(word for platform in _PLATFORMS for word in ("--platform", platform)),
    )  # fmt: skip


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}"
