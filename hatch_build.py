"""Build the container init, a static program of one C file, for the wheel and for an editable install."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = [
    *("-std=c17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wshadow"),
    *("-D_FORTIFY_SOURCE=2", "-fstack-protector-strong", "-fcf-protection", "-fstack-clash-protection"),
    *("-static-pie", "-fPIE", "-Wl,-z,relro,-z,now,-z,noexecstack", "-s"),
]


class InitBuild(BuildHookInterface[Any]):
    """Compiles `sandbox/init/init.c` into its directory, and adds it to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile, unless the built file is newer than its source. Needs gcc and the static C library."""
        folder = Path(self.root) / "src" / "gridapps" / "sandbox" / "init"
        source, built = folder / "init.c", folder / "gridapps-init"
        build_data["artifacts"].append("src/gridapps/sandbox/init/gridapps-init")
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
        recipe = max(source.stat().st_mtime, Path(__file__).stat().st_mtime)
        if built.exists() and built.stat().st_mtime > recipe:
            return
        if shutil.which("gcc") is None:
            raise RuntimeError("gcc is needed to build the container init: install gcc and libc6-dev.")
        partial = built.with_suffix(".partial")
        subprocess.run(["gcc", *FLAGS, str(source), "-o", str(partial)], check=True)
        partial.rename(built)
