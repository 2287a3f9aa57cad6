"""`scripts/vm`: boot the machine of the tests and give a shell in it. It ends with the shell."""

import shutil
import subprocess

from tests.fixtures.session import SESSION
from tests.vm.machine import booted


def main() -> None:
    """Boot, and be root there until the shell ends."""
    try:
        with booted() as machine:
            print(
                f'Debian 13 is up. The program is in /opt/gridapps, not installed yet: docs/cluster.md, "One '
                f'machine under systemd". Port {machine.port} here is port {machine.port} there.'
            )
            subprocess.run(machine.ssh("-t"), check=False)
    finally:
        shutil.rmtree(SESSION, ignore_errors=True)


if __name__ == "__main__":
    main()
