"""The input files of containers, passed as descriptors that the worker opened with its own rights.

Each is bind-mounted read-only under the name of its container, and the engine gets that path. So neither
launcher nor engine opens a path that the worker chose. The mounts outlive this process.
"""

import ctypes
import errno
import fcntl
import os
import stat
from pathlib import Path

from gridapps.sandbox.protocol import NameTaken, SandboxError

_NOSUID, _NODEV, _NOEXEC, _READ_ONLY, _REMOUNT, _BIND = 2, 4, 8, 1, 32, 4096  # linux/mount.h
_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


class Inputs:
    """A directory of mount points, which the engine must see under the same path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()

    def attach(self, name: str, descriptor: int) -> Path:
        """Mount the file and return the path for the container. Idempotent for one file.

        Raises ValueError unless it is a regular file opened read-only, NameTaken when the name has another
        file, SandboxError when it cannot be mounted.
        """
        _check(descriptor)
        if os.geteuid() != 0:  # then launcher and worker have one account, and nothing needs protection
            return Path(f"/proc/self/fd/{descriptor}").readlink()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self._directory / name
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o400))
        except FileExistsError:
            if os.path.samestat(target.lstat(), os.fstat(descriptor)):
                return target
            raise NameTaken(f"{name} has another input already.") from None
        try:
            _mount(descriptor, target)
        except BaseException:
            self.detach(name)
            raise
        return target

    def has(self, name: str) -> bool:
        """Whether a file is attached under this name."""
        return (self._directory / name).exists()

    def detach(self, name: str) -> None:
        """Unmount a file. Idempotent. A container that uses the file keeps it."""
        target = self._directory / name
        if _libc.umount2(os.fsencode(target), _DETACH | _UMOUNT_NOFOLLOW) != 0:
            code = ctypes.get_errno()
            if code not in {errno.EINVAL, errno.ENOENT, errno.EPERM}:
                raise SandboxError(f"{target} could not be unmounted: {os.strerror(code)}.")
        target.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The names of all attached files."""
        return [path.name for path in self._directory.iterdir()] if self._directory.is_dir() else []


def _check(descriptor: int) -> None:
    """A descriptor opened for reading proves that its sender may read the file; one of O_PATH does not."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ValueError("The input is not a regular file.")
    if flags & os.O_PATH or flags & os.O_ACCMODE != os.O_RDONLY:
        raise ValueError("The input must be a descriptor that was opened for reading only.")


def _mount(descriptor: int, target: Path) -> None:
    code = _bind(descriptor, target)
    if code == errno.EINVAL:  # the sender has a mount namespace of its own
        code = _bind_by_path(descriptor, target)
    if code:
        raise SandboxError(f"The input could not be mounted at {target}: {os.strerror(code)}.")
    flags = _REMOUNT | _BIND | _READ_ONLY | _NOSUID | _NODEV | _NOEXEC
    if _libc.mount(None, os.fsencode(target), None, flags, None) != 0:
        code = ctypes.get_errno()
        raise SandboxError(f"{target} could not be made read-only: {os.strerror(code)}.")


def _bind(descriptor: int, target: Path) -> int:
    """Mount the open file. Returns 0 or errno."""
    source = b"/proc/self/fd/%d" % descriptor
    done = _libc.mount(source, os.fsencode(target), None, _BIND, None)
    return 0 if done == 0 else ctypes.get_errno()


def _bind_by_path(descriptor: int, target: Path) -> int:
    """The same for a file of another mount namespace: the path that the kernel reports must lead to the same
    file here."""
    path = Path(f"/proc/self/fd/{descriptor}").readlink()
    try:
        own = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError(f"The input {path} was not found here: {error.strerror}.") from None
    try:
        if not os.path.samestat(os.fstat(own), os.fstat(descriptor)):
            raise SandboxError(f"The input {path} is a different file for the launcher than for the worker.")
        return _bind(own, target)
    finally:
        os.close(own)
