"""A Debian 13 machine in QEMU, reached with ssh. Two ports are forwarded to it; it has no other network."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.ports import free_port
from tests.vm.disk import empty_disk, machine_disk
from tests.vm.product import product_disk

MEMORY = "3072"  # MiB
# Emulated, a machine is ten to thirty times slower than this one, and slower still beside other tests.
BOOT, COMMAND = 7200.0, 3600.0  # seconds
# `kvm` where guests of the machine's own kernel work: nested, /dev/kvm may open and run nothing.
ACCELERATION = os.environ.get("VM_ACCELERATION", "tcg")
_QEMU = {"tcg": ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"],
         "kvm": ["-accel", "kvm", "-cpu", "host"]}  # fmt: skip
_KERNEL = (
    "root=/dev/vda rw console=ttyS0 panic=-1 quiet mitigations=off nowatchdog "
    "systemd.show_status=0 systemd.default_timeout_start_sec=3600 systemd.default_device_timeout_sec=3600"
)


@dataclass
class Machine:
    """A running machine. `port` is forwarded to the same port, so clients here and there use one address."""

    directory: Path
    port: int
    ssh_port: int
    key: Path
    process: subprocess.Popen[bytes]

    def ssh(self, *options: str) -> list[str]:
        """The command that runs its last argument in root's shell."""
        return [
            "ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(self.ssh_port),
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-o", "ConnectTimeout=600", "-o", "ControlMaster=auto", "-o", f"ControlPath={self.directory}/ssh",
            "-o", "ControlPersist=yes", *options, "root@127.0.0.1",
        ]  # fmt: skip

    def run(self, command: str, *, given: str = "", limit: float = COMMAND) -> tuple[int, str]:
        """Run a command of root's shell with `given` as input; its exit status, and what it printed."""
        done = subprocess.run(
            [*self.ssh(), command], input=given, text=True, timeout=limit, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def does(self, command: str, *, given: str = "", limit: float = COMMAND) -> str:
        """The same for a command that must succeed; what it printed."""
        status, printed = self.run(command, given=given, limit=limit)
        assert status == 0, f"{command}: {status}\n{printed}"
        return printed

    def until(self, command: str, *, limit: float = COMMAND) -> str:
        """What a command prints once it succeeds."""
        end = time.monotonic() + limit
        while True:
            status, printed = self.run(command)
            if status == 0:
                return printed
            assert time.monotonic() < end, f"{command}: {status}\n{printed}"
            time.sleep(1)

    def reboot(self) -> None:
        """Boot it again, and wait until it is up."""
        this = "cat /proc/sys/kernel/random/boot_id"
        before = self.does(this)
        self.run("systemctl --no-block reboot")
        self.hang_up()
        end = time.monotonic() + BOOT
        while self.run(this) in [(0, before)] or self.run("true")[0] != 0:
            self.hang_up()
            assert time.monotonic() < end, self.console()
            time.sleep(1)
        self.up()

    def hang_up(self) -> None:
        """Close the connection that all commands share; the next command opens another."""
        subprocess.run([*self.ssh("-O", "exit"), ""], check=False, capture_output=True)

    def up(self) -> None:
        """Wait until every unit that is to run at the boot does."""
        status, state = self.run("systemctl is-system-running --wait", limit=BOOT)
        assert (status, state.strip()) == (0, "running"), self.run("systemctl --failed")[1]

    def console(self) -> str:
        """The end of what it wrote to its serial console."""
        return (self.directory / "console").read_text(errors="replace")[-3000:]


@contextmanager
def booted() -> Iterator[Machine]:
    """A machine that is up, with this tree in /opt/gridapps and an empty disk labelled `docker`."""
    kept = machine_disk()
    with tempfile.TemporaryDirectory(prefix="machine-") as made:
        directory = Path(made)
        port, ssh_port = free_port(), free_port()
        engine = empty_disk(directory / "docker", label="docker", size="8G")
        product = product_disk(directory, base=kept / "root")
        disks = [
            f"file={kept}/disk,format=raw,if=virtio,snapshot=on,cache=unsafe",
            f"file={engine},format=raw,if=virtio,cache=unsafe",
            f"file={product},format=raw,if=virtio,readonly=on",
        ]
        forwarded = f"hostfwd=tcp:127.0.0.1:{ssh_port}-:22,hostfwd=tcp:127.0.0.1:{port}-:{port}"
        process = subprocess.Popen(
            ["qemu-system-x86_64", *_QEMU[ACCELERATION], "-smp", "2", "-m", MEMORY,
             "-nodefaults", "-no-user-config", "-display", "none", "-serial", f"file:{directory}/console",
             "-kernel", kept / "kernel", "-initrd", kept / "initrd", "-append", _KERNEL,
             *(word for disk in disks for word in ("-drive", disk)),
             "-netdev", f"user,id=net,restrict=on,{forwarded}", "-device", "virtio-net-pci,netdev=net",
             "-device", "virtio-rng-pci"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        machine = Machine(directory, port, ssh_port, kept / "key", process)
        try:
            _await(machine)
            yield machine
        finally:
            machine.hang_up()
            process.kill()
            process.wait()


def _await(machine: Machine) -> None:
    end = time.monotonic() + BOOT
    while machine.run("true", limit=BOOT)[0] != 0:
        assert machine.process.poll() is None, "QEMU ended: its message is above."
        assert time.monotonic() < end, machine.console()
        time.sleep(1)
    machine.up()
