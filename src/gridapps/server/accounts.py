"""The system accounts that the parts of an instance run under, and their groups.

All instances of a machine share them. docs/security.md lists what each may read and write; `layout` sets
owners and modes accordingly.
"""

import fcntl
import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gridapps.processes import privileges

EVERYBODY = "gridapps"  # the group of all accounts, which may enter the data directory
# The groups of each account besides its own and EVERYBODY. The part of the same name runs under it.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "nginx": ("outputs",),
    "application": ("database", "outputs", "secret", "tokens", "registry", "trusted"),
    "registry": (),
    "trusted": (),
    "courier": ("database", "secret"),
    "promoter": ("database", "tokens"),
    "scanner": (),
    "housekeeper": ("database", "registry", "trusted"),
    "importer": ("database", "exports"),
    "worker": ("database", "exports", "outputs", "tokens"),
}
_PYTHON = GROUPS.keys() - {"nginx", "registry", "trusted"}
_LOCK = Path("/run/lock/gridapps-accounts")
_PROGRAMS = ("groupadd", "useradd", "usermod", "setpriv")


def name(of: str) -> str:
    """The system's name of an account or group."""
    return EVERYBODY if of == EVERYBODY else f"{EVERYBODY}-{of}"


@dataclass(frozen=True)
class Account:
    """An account with its numeric ids."""

    role: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def stopped_at(self, path: Path) -> Path | None:
        """The first directory of a path that this account may not enter, or None."""
        for directory in reversed(path.resolve().parents):
            try:
                found = directory.stat()
            except FileNotFoundError:
                return None
            shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in (self.gid, *self.groups) else 0
            if not found.st_mode >> shift & 1:
                return directory
        return None


@dataclass(frozen=True)
class Accounts:
    """The accounts of this machine that an instance can use."""

    found: Mapping[str, Account]
    together: Mapping[str, str]  # why a part runs under the account that starts the instance

    def uid(self, of: str) -> int:
        """The owner of a part's files; this process's own account where the part has none."""
        return self.found[of].uid if of in self.found else os.geteuid()

    def gid(self, of: str) -> int:
        """The id of a group; this process's own without accounts or for an empty name."""
        return grp.getgrnam(name(of)).gr_gid if of and self.found else os.getegid()

    def missing(self, among: Collection[str] = tuple(GROUPS)) -> Iterator[str]:
        """A sentence for each reason why parts do not have accounts of their own."""
        reasons: dict[str, list[str]] = {}
        for role, reason in ((role, why) for role, why in self.together.items() if role in among):
            reasons.setdefault(reason, []).append(role)
        for reason, roles in reasons.items():
            yield f"Not separated: {', '.join(roles)} run as {_own_name()}. {reason}"


def make() -> str:
    """Make missing groups and accounts, as root. Returns why that is impossible, or an empty string."""
    if os.geteuid() != 0:
        return "Only root can make accounts and start parts under them."
    if missing := [program for program in _PROGRAMS if not _program(program)]:
        return f"There is no program {missing[0]}: install passwd and util-linux."
    try:
        with _LOCK.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for each in (
                EVERYBODY,
                *sorted({*GROUPS, *(group for some in GROUPS.values() for group in some)}),
            ):
                if not _has(grp.getgrnam, name(each)):
                    _run("groupadd", "--system", name(each))
            for role, groups in GROUPS.items():
                _make_account(role, groups)
    except OSError as error:
        return f"The accounts cannot be made: {error}."
    except subprocess.CalledProcessError as error:
        return f"The accounts cannot be made: {' '.join(error.cmd)}: {error.stderr.strip()}"
    return ""


def find(*paths: Path) -> Accounts:
    """The accounts that can reach `paths`; those of Python parts must also reach this program."""
    if os.geteuid() != 0:
        reason = "Start the instance as root, which makes an account for each."
        return Accounts({}, dict.fromkeys(GROUPS, reason))
    found: dict[str, Account] = {}
    together: dict[str, str] = {}
    program = (Path(sys.executable), Path(sys.prefix, "bin"), Path(os.__file__), Path(__file__))
    for role in GROUPS:
        try:
            account = _account(role)
        except KeyError:
            together[role] = "Their accounts are missing: gridapps-server init makes them."
            continue
        wanted = (*paths, *(program if role in _PYTHON else ()))
        closed = next((path for each in wanted if (path := account.stopped_at(each))), None)
        if closed:
            together[role] = (
                f"{closed} is closed to their accounts: open it (chmod o+x), or move its contents."
            )
        else:
            found[role] = account
    return Accounts(found, together)


def command(account: Account | None, *, capabilities: Sequence[str] = ()) -> list[str]:
    """The prefix of a part's command, which gives up all rights but the account's.

    setpriv sets the parent-death signal last, because the kernel clears it when the account changes.
    """
    if (setpriv := _program("setpriv")) is None:
        return []
    words = [setpriv, "--no-new-privs", "--pdeathsig", "TERM"]
    if account is not None:
        kept = "".join(f",+{each}" for each in capabilities)
        words += [
            "--reuid", str(account.uid), "--regid", str(account.gid),
            *(["--groups", ",".join(map(str, account.groups))] if account.groups else ["--clear-groups"]),
            "--inh-caps", f"-all{kept}", "--ambient-caps", f"-all{kept}", "--bounding-set", f"-all{kept}",
        ]  # fmt: skip
    return [*words, "--"]


def confine(account: Account | None) -> None:
    """Do to this process, which has one thread, what `command` does before a program. Raises OSError."""
    privileges.forgo_new()
    if account is not None:
        privileges.bound_capabilities()
        become(account)
        privileges.drop_capabilities()  # the inheritable ones; the others were lost with root


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Act with the rights of an account, or with the present ones for None. For a process with one thread."""
    if account is None:
        yield
        return
    before = os.getgroups()
    os.setgroups(account.groups)
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


def become(account: Account | None) -> None:
    """Give up root for good; do nothing for None."""
    if account is not None:
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)


def _account(role: str) -> Account:
    entry = pwd.getpwnam(name(role))
    groups = (EVERYBODY, *GROUPS[role])
    return Account(
        role, entry.pw_uid, entry.pw_gid, tuple(grp.getgrnam(name(each)).gr_gid for each in groups)
    )


def _make_account(role: str, groups: Sequence[str]) -> None:
    names = [name(each) for each in (EVERYBODY, *groups)]
    if not _has(pwd.getpwnam, name(role)):
        _run(
            "useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
            "--shell", "/usr/sbin/nologin", "--gid", name(role), "--groups", ",".join(names), name(role),
        )  # fmt: skip
    elif any(name(role) not in grp.getgrnam(each).gr_mem for each in names):
        _run("usermod", "--append", "--groups", ",".join(names), name(role))


def _has(look: Callable[[str], object], wanted: str) -> bool:
    try:
        look(wanted)
    except KeyError:
        return False
    return True


def _run(program: str, *words: str) -> None:
    found = _program(program)
    assert found, "make() has checked it"
    subprocess.run([found, *words], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _program(wanted: str) -> str | None:
    return shutil.which(wanted, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"
