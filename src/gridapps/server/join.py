"""Make another machine a node: put its bundle into the data directory and give the engine its certificate."""

import shutil
from collections.abc import Callable
from pathlib import Path

from gridapps.pki import membership
from gridapps.pki.membership import DIRECTORY, FACTS, InvalidBundle, Membership
from gridapps.server.instance import Unusable

ENGINE_CERTIFICATES = Path("/etc/docker/certs.d")
# The engine's names of the files. They differ from those of a user who pushes from this machine.
_OF_THE_ENGINE = {"ca.crt": "ca.crt", "client.cert": "00-node.cert", "client.key": "00-node.key"}


def join(data: Path, bundle: bytes, *, certificates: Path, say: Callable[[str], None]) -> Membership:
    """Put a bundle into the data directory. A newer bundle replaces the certificate of an older one."""
    try:
        member, files = membership.unpack(bundle)
    except InvalidBundle as error:
        raise Unusable(str(error)) from None
    _check(data, member)
    directory, engine = data / DIRECTORY, certificates / member.authority
    try:
        data.mkdir(mode=0o711, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, content in files.items():
            _write(directory / name, content)
        _write(data / "instance-id", member.instance.encode())
        # Last: this file makes the machine a node.
        _write(directory / FACTS, membership.dump(member))
    except OSError as error:
        raise Unusable(f"The data directory {data} cannot be used: {error.strerror}.") from None
    try:
        engine.mkdir(parents=True, exist_ok=True)
        for name, there in _OF_THE_ENGINE.items():
            shutil.copyfile(directory / name, engine / there)
            (engine / there).chmod(0o600 if there.endswith(".key") else 0o644)
    except OSError as error:
        copies = "; ".join(
            f"cp {directory / name} {engine / there}" for name, there in _OF_THE_ENGINE.items()
        )
        raise Unusable(
            f"The engine's certificates cannot be written to {engine}: {error.strerror}. As root: "
            f"mkdir -p {engine}; {copies}"
        ) from None
    others = sorted(path.name for path in engine.glob("*.cert") if path.name != "00-node.cert")
    if others:
        say(f"{engine} holds {', '.join(others)} too: pushes from here present the node's certificate.")
    say(f"This machine is node {member.node} of the instance {member.authority}.")
    return member


def _check(data: Path, member: Membership) -> None:
    if (data / "authority" / "ca.key").exists():
        raise Unusable(f"{data} is the data directory of an instance itself: set GRIDAPPS_DATA to another.")
    known = membership.load(data)
    if known and (known.instance, known.node) != (member.instance, member.node):
        raise Unusable(
            f"{data} belongs to node {known.node} of the instance {known.authority} already: set "
            "GRIDAPPS_DATA to another directory."
        )


def _write(path: Path, content: bytes) -> None:
    """Replace a file atomically; only this account may read it."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
