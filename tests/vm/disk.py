"""The disk of a Debian 13 machine with systemd, made once and kept in the cache directory."""

import subprocess
from pathlib import Path

from tests.fixtures.cache import kept
from tests.fixtures.roots import UNUSED, bootstrap

SUITE = "trixie"
# What docs/cluster.md asks for, and what a machine needs to boot and to be reached.
PACKAGES = (
    "ca-certificates docker-cli docker-registry docker.io e2fsprogs nginx-light python3-venv "
    "apparmor dbus initramfs-tools iproute2 kmod linux-image-cloud-amd64 openssh-server procps "
    "systemd-sysv udev"
)
SIZE = "16G"

# $1 is the new root, $2 the directory of the disk, $3 its size. An emulated machine is slow, so only what the
# tests use starts. The initial file system has only the modules that find this disk.
_PREPARE = """
set -eu
cd "$1"
mount --bind /proc proc
install -d -m 700 root/.ssh
install -m 600 "$2/key.pub" root/.ssh/authorized_keys
echo grid > etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1 grid.example grid\\n' > etc/hosts
: > etc/machine-id
printf '[Match]\\nName=e*\\n[Network]\\nDHCP=ipv4\\n' > etc/systemd/network/machine.network
printf 'LABEL=gridapps /opt/gridapps ext4 ro 0 0\\n' > etc/fstab
mkdir opt/gridapps
echo SYSTEMD_BUS_TIMEOUT=3600 >> etc/environment
chroot . systemctl --quiet enable systemd-networkd
chroot . systemctl --quiet disable nginx docker-registry
chroot . systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \\
    e2scrub_all.timer e2scrub_reap.service fstrim.timer
echo MODULES=list > etc/initramfs-tools/conf.d/machine
printf 'virtio_pci\\nvirtio_blk\\next4\\n' >> etc/initramfs-tools/modules
chroot . update-initramfs -u
umount proc
cp boot/vmlinuz-* "$2/kernel"
cp boot/initrd.img-* "$2/initrd"
truncate -s "$3" "$2/disk"
mke2fs -q -t ext4 -L root -d . "$2/disk"
"""


def machine_disk() -> Path:
    """A directory with the files `disk`, `kernel` and `initrd`, root's private `key` for ssh, and `root`, the
    tree that the disk was made of. Never write to them. Takes minutes the first time."""
    return kept("machines/trixie", f"{PACKAGES} {UNUSED} {SIZE} {_PREPARE}", _make)


def _make(directory: Path) -> None:
    directory.mkdir()
    root = directory / "root"
    bootstrap(SUITE, ",".join(sorted(PACKAGES.split())), root)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", directory / "key"], check=True
    )
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", _PREPARE, "prepare", root, directory, SIZE],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def empty_disk(path: Path, *, label: str, size: str) -> Path:
    """A new disk with an empty ext4 file system."""
    return _file_system(path, label, size)


def disk_of(directory: Path, path: Path, *, label: str, size: str) -> Path:
    """A new disk with a copy of a directory."""
    return _file_system(path, label, size, "-d", directory)


def _file_system(path: Path, label: str, size: str, *options: str | Path) -> Path:
    subprocess.run(["truncate", "-s", size, path], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-L", label, *options, path], check=True)
    return path
