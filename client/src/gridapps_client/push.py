"""Pushing an image to the developer registry with whatever tool this machine has: docker, podman or skopeo.

The client certificate alone authorises. docker reads it from its own certs.d directory, and only for hosts
that are not on the loopback; skopeo and podman are handed the directory.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gridapps_client.address import authority
from gridapps_client.configuration import replace_directory
from gridapps_client.errors import GridAppsError
from gridapps_client.text import plain

TOOLS = ("docker", "podman", "skopeo")
_FILES = ("ca.crt", "client.cert", "client.key")
_TRANSPORTS = ("docker-archive:", "oci:", "oci-archive:", "docker-daemon:", "containers-storage:", "dir:")
_REPOSITORY = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-f:]+\])(?P<port>:\d{1,5})?/(?P<app>[a-z0-9][a-z0-9-]*)"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_IMAGE = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*")
# Where the registry's own words begin in what the tools print.
_REFUSAL = re.compile(r"\b(?:denied|unauthorized|manifest invalid|unsupported|unknown): *(?P<text>.+)")
_SKOPEO = re.compile(r'level=(?:fatal|error) msg="(?P<text>(?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Target:
    """Where an image goes: `authority` is the registry's host and port."""

    authority: str
    app: str
    tag: str

    @property
    def reference(self) -> str:
        """As engines write it."""
        return f"{self.authority}/{self.app}:{self.tag}"


def target(*, repository: str, tag: str, url: str) -> Target:
    """The target for an App's `repository`, which must be on the instance at `url`.

    The repository's host becomes the name of a directory with a trusted authority, so no server may choose
    another's.
    """
    found = _REPOSITORY.fullmatch(repository)
    if not found:
        raise GridAppsError(f"{repository!r} is no repository that an image can go to.", code="push")
    where = found["host"] + (found["port"] or ":443")
    if where != authority(url):
        raise GridAppsError(
            f"Images of this instance go to {where}, but you are logged in at {authority(url)}. "
            f"Log in with: gridapps login https://{where}",
            code="push",
        )
    if not _TAG.fullmatch(tag):
        raise GridAppsError(
            f"{tag!r} is no tag: letters, digits, '.', '_' and '-', at most 128.", code="usage"
        )
    return Target(authority=found["host"] + (found["port"] or ""), app=found["app"], tag=tag)


def push(image: str, *, to: Target, certificates: Path, tool: str | None, tell: Callable[[str], None]) -> str:
    """Push `image` and return the tool that did it. `tool`: docker, podman or skopeo; None: what fits.

    `certificates` is the directory with ca.crt, client.cert and client.key. `tell` hears what is done.
    """
    archive = image.startswith(_TRANSPORTS)
    if not archive and not _IMAGE.fullmatch(image):
        raise GridAppsError(f"{image!r} is no image's name.", code="usage")
    if not all((certificates / name).is_file() for name in _FILES):
        raise GridAppsError(
            "There is no client certificate on this machine. Make one with: gridapps certificate create",
            code="push",
        )
    tool = tool or _fitting(image, to, archive=archive, tell=tell)
    if shutil.which(tool) is None:
        raise GridAppsError(
            f"{tool} is not installed; install it, or choose another with --with.", code="push"
        )
    if tool == "docker":
        _with_docker(image, to, certificates, tell)
    elif tool == "podman":
        _run(["podman", "push", "--cert-dir", str(certificates), image, f"docker://{to.reference}"], tell)
    else:
        source = image if archive else f"docker-daemon:{_identity(image)}"
        _run(
            [*_skopeo(source), "--dest-cert-dir", str(certificates), source, f"docker://{to.reference}"], tell
        )
    return tool


def _fitting(image: str, to: Target, *, archive: bool, tell: Callable[[str], None]) -> str:
    if archive:
        return "skopeo"
    in_docker = shutil.which("docker") and _succeeds(["docker", "image", "inspect", image])
    if in_docker:
        obstacle = _obstacle(to.authority)
        if obstacle is None:
            return "docker"
        if shutil.which("skopeo"):
            tell(f"{obstacle}, so skopeo copies the image.")
            return "skopeo"
        raise GridAppsError(f"{obstacle}; install skopeo, which needs neither.", code="push")
    if shutil.which("podman") and _succeeds(["podman", "image", "exists", image]):
        return "podman"
    raise GridAppsError(f"Neither docker nor podman has an image {image!r}; build it first.", code="push")


def _obstacle(where: str) -> str | None:
    """Why docker itself cannot push to `where`, or None when it can."""
    if os.environ.get("DOCKER_HOST", "unix:").partition(":")[0] != "unix":
        return "The docker engine is on another machine, whose certificates cannot be set up from here"
    if _on_loopback(where):
        return "docker reads no certificates for a registry on the loopback"
    directory = _certs_d() / where
    existing = next(each for each in (directory, *directory.parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{directory} may not be written by this user"
    if directory.exists() and {each.name for each in directory.iterdir()} - set(_FILES):
        return f"{directory} holds files that are not of this client"
    return None


def _with_docker(image: str, to: Target, certificates: Path, tell: Callable[[str], None]) -> None:
    obstacle = _obstacle(to.authority)
    if obstacle:
        raise GridAppsError(f"{obstacle}; push with --with skopeo.", code="push")
    _set_up(_certs_d() / to.authority, certificates, tell)
    named_already = _succeeds(["docker", "image", "inspect", to.reference])
    _run(["docker", "tag", image, to.reference], tell)
    try:
        _run(["docker", "push", to.reference], tell)
    finally:
        # Takes away the name only: the image keeps the one it had.
        if not named_already:
            _succeeds(["docker", "image", "rm", "--no-prune", to.reference])


def _set_up(directory: Path, certificates: Path, tell: Callable[[str], None]) -> None:
    wanted = {name: (certificates / name).read_text() for name in _FILES}
    if all(
        (directory / name).is_file() and (directory / name).read_text() == text
        for name, text in wanted.items()
    ):
        return
    tell(f"Writing the client certificate to {directory}, where docker looks for it.")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GridAppsError(
            f"{directory.parent} cannot be made: {error.strerror}; push with --with skopeo.", code="push"
        ) from error
    replace_directory(directory, wanted)


def _certs_d() -> Path:
    """Where the docker engine looks for certificates; a rootless one looks below its user's home."""
    options = subprocess.run(
        ["docker", "info", "--format", "{{.SecurityOptions}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "name=rootless" in options.stdout:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "docker/certs.d"
    return Path("/etc/docker/certs.d")


def _on_loopback(where: str) -> bool:
    host = where.rpartition(":")[0].strip("[]") if ":" in where else where
    try:
        found = {ipaddress.ip_address(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    # docker goes by 127.0.0.0/8 alone, for whatever address the name has.
    return any(address.version == 4 and address.is_loopback for address in found)


def _identity(image: str) -> str:
    """The image's id, because skopeo knows neither docker's default tag nor shortened ids."""
    found = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", image],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if found.returncode != 0:
        raise GridAppsError(f"Docker has no image {image!r}; build it first.", code="push")
    return found.stdout.strip()


def _skopeo(source: str) -> list[str]:
    host = os.environ.get("DOCKER_HOST")
    remote = ["--src-daemon-host", host] if host and source.startswith("docker-daemon:") else []
    return ["skopeo", "copy", *remote]


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def _run(command: list[str], tell: Callable[[str], None]) -> None:
    tell("$ " + " ".join(command))
    # The tools show their progress on standard output, which here belongs to the result.
    shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        raise GridAppsError(refusal(done.stderr.decode(errors="replace"), tool=command[0]), code="push")


def refusal(printed: str, *, tool: str) -> str:
    """Why a push failed, in one sentence, from what `tool` printed: the registry's own words where there are
    any.
    """
    texts = [line.strip() for line in printed.splitlines() if line.strip()]
    last = texts[-1] if texts else "it printed nothing"
    logged = _SKOPEO.search(last)
    if logged:
        last = logged["text"].replace('\\"', '"').replace("\\\\", "\\")
    words = _REFUSAL.search(last)
    if words:
        return f"The registry refused the image: {plain(words['text'])}"
    return f"{tool} could not push the image: {plain(last.removeprefix('Error: '))}"
