"""The directory of one attempt on the node: arguments, and a quota file system with outputs and log.

    <scratch>/<name>/           0700
        launch.json             labels, limits and the word that the end report must begin with
        arguments               standard input of the program
        passwd, group           the account files of the container
        container               the engine's id of the container
        volume/                 the quota file system (or a plain directory under the watchdog)
            grid/, scratch/     mode 1777, owned by the attempt's user
            run/log             in a directory of root: the program can write to it, not replace it
            report/status       the same, in a separate file system, which nothing else can fill

Each attempt has a user id of its own, because the kernel keeps some limits per user.

The directories in `volume` exist only inside the file system, and the engine refuses a mount whose source is
missing. So an engine that does not see the file system cannot start a container that writes to the node's own
disk.
"""

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gridapps.sandbox import loop, watchdog
from gridapps.sandbox.account_files import AccountFiles
from gridapps.sandbox.protocol import Launch, Limits, NameTaken, SandboxError
from gridapps.sandbox.report import Report, read_report

Quota = Literal["loop", "watchdog"]
WORD_SIZE = 64
_REPORT_SIZE = 16 * 1024  # bytes; a report has less than 4 KiB, and no second file fits
USERS = range(2_000_000_000, 2_000_065_536)  # unless the settings name others
_TRIES_OF_A_USER = 10_000
_REPORT_INODES = 2  # the directory and the status file
_TRY = "check-"
_UNFINISHED = 60.0  # seconds; creating a workspace writes launch.json within the first moments


@dataclass(frozen=True)
class Workspace:
    """The directory of an attempt. Nothing is cached, since another process may have created it."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def arguments(self) -> Path:
        return self.root / "arguments"

    @property
    def passwd(self) -> Path:
        return self.root / "passwd"

    @property
    def group(self) -> Path:
        return self.root / "group"

    @property
    def volume(self) -> Path:
        return self.root / "volume"

    @property
    def grid(self) -> Path:
        return self.volume / "grid"

    @property
    def scratch(self) -> Path:
        return self.volume / "scratch"

    @property
    def run(self) -> Path:
        return self.volume / "run"

    @property
    def log(self) -> Path:
        return self.run / "log"

    @property
    def report(self) -> Path:
        return self.volume / "report"

    @property
    def status(self) -> Path:
        return self.report / "status"

    @property
    def launch_file(self) -> Path:
        return self.root / "launch.json"

    @property
    def over_quota(self) -> Path:
        """Exists if the watchdog stopped the container."""
        return self.root / "over-quota"

    @property
    def forced(self) -> Path:
        """Exists if the container was ended without the engine and left no report."""
        return self.root / "forced"

    def user(self) -> int:
        """The user and group id of the attempt."""
        return int(self.known()["user"])

    def known(self) -> dict[str, Any]:
        """The content of launch.json; empty if its creator died before it was written."""
        try:
            known: dict[str, Any] = json.loads(self.launch_file.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return known

    def note_container(self, identifier: str) -> None:
        """Note the engine's id of the container, by which its processes are found without the engine."""
        _write(self.root / "container", identifier.encode(), mode=0o600)

    def container(self) -> str:
        """The noted id, or ""."""
        try:
            return (self.root / "container").read_text()
        except FileNotFoundError:
            return ""

    def end_report(self) -> Report | None:
        """The report that init left at the end, or None."""
        return read_report(self.status, word=self.known().get("word", ""))

    def spoil(self) -> None:
        """Prevent a later start of the program: init starts nothing without the word in the status file."""
        if self.status.exists():
            os.truncate(self.status, 0)

    def is_unfinished(self) -> bool:
        """Whether it has no launch.json, or belongs to a check, some time after its creation."""
        try:
            age = time.time() - self.root.stat().st_mtime
        except FileNotFoundError:
            return False
        return age > _UNFINISHED and (self.name.startswith(_TRY) or not self.known())

    def disk_used(self) -> int:
        """Bytes that outputs, scratch files and log take; 0 when the file system is not mounted."""
        if not self.grid.is_dir():
            return 0
        if self.volume.is_mount():
            found, log = os.statvfs(self.volume), self.log.lstat()
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            return used - log.st_blocks * 512 + log.st_size  # its blocks may be allocated in advance
        return watchdog.measure(self.volume).bytes

    def log_size(self) -> int:
        """Bytes of the log, 0 without one."""
        return self.log.lstat().st_size if self.log.exists() else 0

    def unmount(self) -> None:
        """Unmount the file systems with outputs, log and report. Idempotent."""
        loop.unmount(self.report)
        loop.unmount(self.volume)

    def remove(self) -> None:
        """Unmount and delete. Idempotent. Raises SandboxError when something still uses it."""
        self.unmount()
        if (self.volume / "grid").is_dir():  # of the watchdog: any depth, any names
            subprocess.run(
                ["rm", "-rf", "--one-file-system", str(self.volume)], check=True, capture_output=True
            )
        shutil.rmtree(self.root, ignore_errors=True)
        if self.root.exists():
            raise SandboxError(f"The workspace {self.root} could not be removed.")


def create(
    scratch: Path,
    launch: Launch,
    *,
    quota: Quota,
    users: range,
    entry: Mapping[str, str],
    accounts: AccountFiles,
) -> Workspace:
    """Create the workspace of a launch. `entry` is kept for messages about the end. The workspace gets a user
    id from `users` that no other workspace here has. `accounts` are those of the image.

    Raises NameTaken, NoSpace, and leaves nothing behind then.
    """
    workspace = Workspace(scratch / launch.name)
    try:
        workspace.root.mkdir(mode=0o700)
    except FileExistsError:
        raise NameTaken(f"A workspace named {launch.name} exists already.") from None
    try:
        word = secrets.token_hex(WORD_SIZE // 2)
        known = {**_facts(launch), **entry, "word": word, "quota": quota}
        with _locked(scratch):
            known["user"] = _free_user(scratch, users)
            _write(workspace.launch_file, json.dumps(known).encode(), mode=0o600)
        _write(workspace.arguments, launch.arguments, mode=0o444)
        merged = accounts.with_user(known["user"])
        _write(workspace.passwd, merged.passwd, mode=0o444)
        _write(workspace.group, merged.group, mode=0o444)
        workspace.volume.mkdir(mode=0o700)
        if quota == "loop":
            _mount_volume(workspace, launch)
        else:
            watchdog.check_free(scratch, needed=launch.limits.disk + launch.limits.log)
        _fill_volume(workspace, user=known["user"])
        if quota == "loop":
            loop.mount_memory(workspace.report, size=_REPORT_SIZE, inodes=_REPORT_INODES)
        _write(workspace.status, word.encode(), mode=0o666)
    except BaseException:
        workspace.remove()
        raise
    return workspace


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Exclude all other threads and processes that create workspaces here."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _free_user(scratch: Path, users: range) -> int:
    """A user id that no workspace has. Random, so that other instances are unlikely to choose the same."""
    taken = {Workspace(path).known().get("user") for path in scratch.iterdir() if path.is_dir()}
    for _ in range(_TRIES_OF_A_USER):
        user = secrets.choice(users)
        if user not in taken:
            return user
    raise SandboxError(
        f"No user id from {users.start} to {users.stop - 1} is free: widen the range in GRIDAPPS_USER_IDS."
    )


def probe(scratch: Path, *, quota: Quota, users: range = USERS) -> Workspace:
    """A small workspace for no container, to check that workspaces can be created here."""
    limits = Limits(cpus=1, memory=1, disk=1024**2, log=4096, inodes=16)
    launch = Launch(
        name=f"{_TRY}{secrets.token_hex(8)}",
        image="",
        arguments=b"",
        input=Path("/"),
        input_name="",
        run="",
        task="",
        limits=limits,
        deadline=datetime.now(UTC),
    )
    return create(scratch, launch, quota=quota, users=users, entry={}, accounts=AccountFiles())


def _facts(launch: Launch) -> dict[str, Any]:
    limits = launch.limits
    return {"labels": dict(launch.labels), "disk": limits.disk, "inodes": limits.inodes, "log": limits.log}


def _write(path: Path, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)


def _mount_volume(workspace: Workspace, launch: Launch) -> None:
    """The image file is unlinked once mounted, so the kernel frees it after the last use, even after a
    crash."""
    image = workspace.root / "image"
    inodes = launch.limits.inodes
    size = loop.image_size(usable=launch.limits.disk + launch.limits.log, inodes=inodes)
    try:
        loop.create_image(image, size=size, inodes=inodes)
        loop.mount(image, workspace.volume)
    finally:
        image.unlink(missing_ok=True)
    if not workspace.volume.is_mount():
        raise SandboxError(f"The quota file system of {workspace.root} is not mounted.")


def _fill_volume(workspace: Workspace, *, user: int) -> None:
    """Sets modes regardless of the umask. The program owns the directories for its files. It may write to log
    and report, but does not own them."""
    workspace.volume.chmod(0o755)
    for directory in (workspace.grid, workspace.scratch):
        directory.mkdir()
        directory.chmod(0o1777)
        if os.geteuid() == 0:
            os.chown(directory, user, user)
    for directory in (workspace.run, workspace.report):
        directory.mkdir()
        directory.chmod(0o755)
    _write(workspace.log, b"", mode=0o666)
    lost_found = workspace.volume / "lost+found"
    if lost_found.exists():
        lost_found.rmdir()
