"""Quota file systems: ext4 of a fixed size in a file, on a loop device.

The kernel enforces the limits on bytes and inodes. Needs root.
"""

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from gridapps.sandbox.protocol import NoSpace, SandboxError

_LOOP_CTL_GET_FREE = 0x4C82  # linux/loop.h
_LOOP_CONFIGURE = 0x4C0A
_AUTOCLEAR, _DIRECT_IO = 4, 16
_NOSUID, _NODEV, _NOEXEC, _NOATIME = 2, 4, 8, 1024  # linux/mount.h
_UMOUNT_NOFOLLOW = 8
_EXT4_SHUTDOWN = 0x8004587D  # linux/ext4.h: EXT4_IOC_SHUTDOWN
_WITHOUT_FLUSH = 2
_BUSY_SECONDS = 5.0
_INODE_SIZE = 256
_MARGIN = 1024**2
_BLOCK = 4096  # bytes

_libc = ctypes.CDLL(None, use_errno=True)


def image_size(*, usable: int, inodes: int) -> int:
    """Bytes of an image whose file system offers `usable` bytes. Adds inode tables, bitmaps and the part
    (2 %, at most 16 MiB) that ext4 reserves. Whole blocks: the kernel logs an error about a loop
    device that ends with a part of a block."""
    groups = usable // (128 * 1024**2) + 2
    kept_back = min(usable // 40, 16 * 1024**2)
    size = usable + inodes * _INODE_SIZE + groups * 5 * _BLOCK + kept_back + _MARGIN
    return -(-size // _BLOCK) * _BLOCK


def create_image(image: Path, *, size: int, inodes: int) -> None:
    """Create the image with all blocks allocated on the disk, so that a write into it cannot fail later.

    Raises NoSpace when the disk is too small for it.
    """
    try:
        descriptor = os.open(image, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise NoSpace(
                f"The disk of {image.parent} is too full for a workspace of {size} bytes: "
                "free some space, or request less disk."
            ) from None
        raise
    options = ["-q", "-F", "-b", str(_BLOCK), "-I", str(_INODE_SIZE), "-m", "0", "-N", str(inodes)]
    options += ["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"]
    made = subprocess.run(
        ["mkfs.ext4", *options, str(image)], capture_output=True, text=True, check=False, timeout=300
    )
    if made.returncode != 0:
        raise SandboxError(f"The file system {image} could not be made: {made.stderr.strip()}")


def mount(image: Path, target: Path) -> None:
    """Mount the image with nodev and nosuid. The kernel frees the loop device at the last unmount."""
    device, descriptor = _attach(image)
    try:
        flags = _NOSUID | _NODEV | _NOATIME
        if _libc.mount(os.fsencode(device), os.fsencode(target), b"ext4", flags, b"nobarrier") != 0:
            code = ctypes.get_errno()
            raise SandboxError(f"{image} could not be mounted: {os.strerror(code)}.")
    finally:
        os.close(descriptor)


def mount_memory(target: Path, *, size: int, inodes: int) -> None:
    """Mount a tmpfs of `size` bytes. Its pages are charged to the process that writes them."""
    options = f"size={size},nr_inodes={inodes},mode=0755,uid=0,gid=0".encode()
    flags = _NOSUID | _NODEV | _NOEXEC | _NOATIME
    if _libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", flags, options) != 0:
        raise SandboxError(f"{target} could not be mounted: {os.strerror(ctypes.get_errno())}.")


def unmount(target: Path) -> None:
    """Unmount without writing pending data back: the image is deleted next. Does nothing if not mounted.

    A process that another thread forks holds our descriptors until it executes its program, and a file system
    with an open descriptor is busy. So unmounting is retried for some seconds.
    """
    if not os.path.ismount(target):
        return
    _shut_down(target)
    end = time.monotonic() + _BUSY_SECONDS
    while _libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW) != 0:
        code = ctypes.get_errno()
        if code == errno.EINVAL:
            return
        if code != errno.EBUSY or time.monotonic() > end:
            raise SandboxError(f"{target} could not be unmounted: {os.strerror(code)}.")
        time.sleep(0.005)


def _shut_down(target: Path) -> None:
    """Shut the file system down. Unlike an unmount, this does not write pending data back."""
    descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.ioctl(descriptor, _EXT4_SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
    finally:
        os.close(descriptor)


def _attach(image: Path) -> tuple[str, int]:
    """A loop device for the image, and a descriptor that keeps the device until it is mounted."""
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            for _ in range(64):
                device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
                descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(descriptor, _LOOP_CONFIGURE, _configuration(backing, image))
                except OSError as error:
                    os.close(descriptor)
                    if error.errno != errno.EBUSY:  # another process took it: try the next
                        raise
                else:
                    return device, descriptor
        finally:
            os.close(control)
    except OSError as error:
        raise SandboxError(
            f"No loop device for {image}: {error.strerror}. Loop devices need root and /dev/loop-control; "
            "GRIDAPPS_QUOTA=watchdog does without them."
        ) from None
    finally:
        os.close(backing)
    raise SandboxError("No free loop device was found in 64 tries.")


def _configuration(backing: int, image: Path) -> bytes:
    """struct loop_config of linux/loop.h."""
    name = os.fsencode(image)[-63:]
    flags = _AUTOCLEAR | _DIRECT_IO
    info = struct.pack("=5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    return struct.pack("=II", backing, _BLOCK) + info + bytes(64)
