"""The checks of `gridapps-server doctor`. Each says what is wrong and what to do about it."""

import os
import shlex
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx

from gridapps.config.environment import GIB, Environment
from gridapps.oci import signatures
from gridapps.oci.signatures import UnusableKeys
from gridapps.pki import membership
from gridapps.pki.membership import Membership
from gridapps.processes.leftovers import is_free
from gridapps.sandbox.protocol import SandboxError
from gridapps.sandbox.resources import shown
from gridapps.server import accounts, engine_limits, reserve
from gridapps.server.engine import make_sandbox
from gridapps.server.instance import Unusable, accounts_of
from gridapps.server.parts import program
from gridapps.storage import free_disk
from gridapps.storage.choice import Location, open_storage
from gridapps.storage.interface import StorageUnavailable

PROGRAMS = ("docker-registry", "nginx")
PROGRAMS_OF_A_NODE = ("mkfs.ext4",)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check. A fault keeps the instance from working, a warning does not."""

    check: str
    detail: str
    fault: str = ""
    warning: str = ""


def examine(settings: Environment, *, works: bool = True, thorough: bool = False) -> Iterator[Finding]:
    """Run the checks for this machine. They change nothing. `thorough`: start a container as well.

    Ports are checked on the first machine only, and the engine only where tasks run.
    """
    data = settings.data.absolute()
    member = membership.load(data)
    if works:
        yield from (_program(name) for name in PROGRAMS_OF_A_NODE)
        yield _permissions(settings)
    yield _accounts(settings)
    yield from _files(settings)
    yield _disk(settings)
    yield _storage(settings)
    if member is None:
        yield from (_program(name) for name in PROGRAMS)
        ports = {
            "nginx": ("TLS port", settings.listen, settings.port, "GRIDAPPS_PORT"),
            "registry": ("registry port", "127.0.0.1", settings.registry_port, "GRIDAPPS_REGISTRY_PORT"),
            "trusted": ("trusted port", "127.0.0.1", settings.trusted_port, "GRIDAPPS_TRUSTED_PORT"),
        }
        for part, (check, host, port, setting) in ports.items():
            if _runs(data, part):
                yield Finding(check=check, detail=f"{host}:{port} is used by this instance")
            else:
                yield _port(check, host, port, setting)
        yield _keys(settings)
        yield _scanner(settings)
    else:
        yield _registry(member, data / membership.DIRECTORY)
    if works:
        yield _engine(settings, thorough=thorough)
        yield from _limits(settings)


def _runs(data: Path, part: str) -> bool:
    """Whether a part of this instance runs."""
    try:
        return not is_free(data / "run" / f"{part}.held")
    except OSError:  # it was never started, or this account may not look
        return False


def _accounts(settings: Environment) -> Finding:
    """Under which accounts the parts run."""
    check, ours = "accounts", accounts_of(settings)
    detail = ", ".join(f"{role} as {accounts.name(role)}" for role in ours.found) or "none of their own"
    return Finding(check=check, detail=detail, warning=" ".join(ours.missing()))


def _files(settings: Environment) -> Iterator[Finding]:
    """Whether the parts can read the files that settings name."""
    ours = accounts_of(settings)
    named = {
        "GRIDAPPS_HOOK_CA": (settings.hook_ca, ("courier",)),
        "GRIDAPPS_BROKER_CA": (settings.broker_ca, ("application", "worker")),
        "GRIDAPPS_SIGNATURE_KEYS": (settings.signature_keys, ("application", "promoter")),
    }
    for setting, (path, roles) in named.items():
        for role in roles if path else ():
            if role in ours.found and (closed := ours.found[role].stopped_at(Path(path).absolute())):
                fault = (
                    f"{closed} is closed to {accounts.name(role)}, which reads {path}: open it (chmod o+x)."
                )
                yield Finding(check=setting, detail=path, fault=fault)


def _limits(settings: Environment) -> Iterator[Finding]:
    """Whether the engine can exhaust the machine's memory or disk."""
    if (pid := engine_limits.process(settings.engine)) is None:
        yield Finding(check="engine's memory", detail="its process cannot be seen from here")
    elif (limit := engine_limits.memory_limit(pid)) is None:
        yield Finding(
            check="engine's memory",
            detail="no limit",
            warning="An image can make the engine take all memory of this machine: set a limit "
            "(deploy/docker.service.d/gridapps.conf).",
        )
    else:
        yield Finding(check="engine's memory", detail=f"at most {limit / GIB:.1f} GiB")
    if (directory := engine_limits.storage(settings.engine)) is None:
        return
    data = settings.data.absolute()
    if engine_limits.shares_file_system(directory, data):
        yield Finding(
            check="engine's storage",
            detail=str(directory),
            warning=f"Images can fill the disk of {data}: give {directory} a file system of its own "
            "(deploy/var-lib-docker.mount).",
        )
    else:
        yield Finding(check="engine's storage", detail=f"{directory}, a file system of its own")


def _registry(member: Membership, certificates: Path) -> Finding:
    """Whether the first machine accepts this node's certificate."""
    check, url = "registry", f"https://{member.authority}/registry/token"
    try:
        trusted = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        trusted.load_cert_chain(certificates / "client.cert", certificates / "client.key")
        answer = httpx.get(url, verify=trusted, trust_env=False, timeout=10)
    except (httpx.HTTPError, OSError) as error:
        fault = f"The first machine does not answer at {member.authority}: {error}."
        return Finding(check=check, detail=member.authority, fault=fault)
    if not answer.is_success:
        fault = f"It does not take this node's certificate ({answer.text[:300]}): join with a new bundle."
        return Finding(check=check, detail=member.authority, fault=fault)
    return Finding(check=check, detail=f"{member.authority} takes the certificate of node {member.node}")


def _program(name: str) -> Finding:
    try:
        return Finding(check=name, detail=program(name))
    except Unusable as error:
        return Finding(check=name, detail="missing", fault=error.message)


def _permissions(settings: Environment) -> Finding:
    check, user = "permissions", "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    if settings.quota == "loop" and os.geteuid() != 0:
        fault = "The output limit mounts a file system per task, which needs root: start as root, or set "
        return Finding(check=check, detail=user, fault=fault + "GRIDAPPS_QUOTA=watchdog (docs/settings.md).")
    return Finding(check=check, detail=user)


def _disk(settings: Environment) -> Finding:
    data = settings.data.absolute()
    places = [data] if settings.storage.startswith("s3://") else [data, settings.shared / "outputs"]
    found = free_disk.measure(*places, floor=settings.min_free_disk)
    detail = f"{shown('disk', found.free)} free"
    if found.free < reserve.SIZE:
        fault = f"The disk of {data} is full: free some, or move GRIDAPPS_DATA."
        return Finding(check="disk", detail=detail, fault=fault)
    warning = (
        f"Less than GRIDAPPS_MIN_FREE_DISK ({shown('disk', found.floor)}): pushes, imports and new tasks are "
        "refused. Free some (gridapps-server tidy)."
    )
    return Finding(check="disk", detail=detail, warning=warning if found.is_short else "")


def _storage(settings: Environment) -> Finding:
    location = settings.storage or str(settings.shared)
    storage = open_storage(Location(url=location, endpoint=settings.s3_endpoint, region=settings.s3_region))
    try:
        if (directory := storage.local("")) is None:
            next(storage.entries("exports/"), None)
        elif settings.storage and not os.access(directory, os.W_OK):
            raise StorageUnavailable(f"{directory} is missing or cannot be written: mount it.")
    except StorageUnavailable as error:
        fault = f"{error} See GRIDAPPS_STORAGE, and docs/storage.md."
        return Finding(check="storage", detail=location, fault=fault)
    return Finding(check="storage", detail=location)


def _keys(settings: Environment) -> Finding:
    check = "signature keys"
    try:
        names = sorted(signatures.load_keys(settings.signature_keys))
    except UnusableKeys as error:
        return Finding(
            check=check, detail=settings.signature_keys, fault=f"{error} See GRIDAPPS_SIGNATURE_KEYS."
        )
    demanded = ", and shares demand one" if settings.require_signature else ""
    return Finding(check=check, detail=f"{', '.join(names)}{demanded}" if names else "none")


def _scanner(settings: Environment) -> Finding:
    check, words = "scanner", shlex.split(settings.scanner)
    if words and not shutil.which(words[0]):
        fault = f"There is no program {words[0]}: install it, or set GRIDAPPS_SCANNER. Nothing can be shared."
        return Finding(check=check, detail=settings.scanner, fault=fault)
    return Finding(check=check, detail=settings.scanner or "none")


def _port(check: str, host: str, port: int, setting: str) -> Finding:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    detail = f"{host}:{port}"
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            fault = f"Cannot listen on {detail}: {error.strerror}. Stop what uses it, or set {setting}."
            return Finding(check=check, detail=detail, fault=fault)
    return Finding(check=check, detail=f"{detail} is free")


def _engine(settings: Environment, *, thorough: bool) -> Finding:
    try:
        with closing(make_sandbox(settings, instance="doctor")) as sandbox:
            sandbox.check()
            if thorough:
                sandbox.try_out()
    except SandboxError as error:
        return Finding(check="container engine", detail=settings.engine, fault=str(error))
    does = "runs containers" if thorough else "answers"
    return Finding(check="container engine", detail=f"{settings.engine} {does}")
