"""Push an image to the developer registry with docker, podman or skopeo, whichever is installed.

The client certificate authorises the push. docker reads it from its own certs.d directory, and not for
loopback addresses; skopeo and podman receive the directory as an option. skopeo gets the image as an archive
that docker or podman saves, because it speaks neither to every version of docker nor to a docker context.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gridapps_client.address import app_segment, authority
from gridapps_client.configuration import replace_directory
from gridapps_client.disk import asked, reading, started, writing
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
# The start of the registry's message in the output of the tools.
_REFUSAL = re.compile(r"\b(?:denied|unauthorized|manifest invalid|unsupported|unknown): *(?P<text>.+)")
_SKOPEO = re.compile(r'level=(?:fatal|error) msg="(?P<text>(?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Target:
    """The destination of an image. `authority` is the registry's host and port."""

    authority: str
    app: str
    tag: str

    @property
    def reference(self) -> str:
        """The image reference."""
        return f"{self.authority}/{self.app}:{self.tag}"


def judge(image: str, *, app_id: str, tag: str) -> None:
    """Raise GridAppsError for names that cannot be right, before anything is asked."""
    app_segment(app_id)
    _judge_tag(tag)
    _judge_image(image)


def target(*, repository: str, tag: str, url: str) -> Target:
    """The target for an App's `repository`, which must be on the instance at `url`.

    The repository's host becomes the name of a directory with a trusted authority, so a server must not be
    able to name another host.
    """
    found = _REPOSITORY.fullmatch(repository)
    if not found:
        raise GridAppsError(f"{repository!r} is not a repository that images can be pushed to.", code="push")
    where = found["host"] + (found["port"] or ":443")
    if where != authority(url):
        raise GridAppsError(
            f"Images of this instance go to {where}, but you are logged in at {authority(url)}. "
            f"Log in with: gridapps login https://{where}",
            code="push",
        )
    _judge_tag(tag)
    return Target(authority=found["host"] + (found["port"] or ""), app=found["app"], tag=tag)


def push(image: str, *, to: Target, certificates: Path, tool: str | None, tell: Callable[[str], None]) -> str:
    """Push `image` and return the tool that was used. `tool`: docker, podman or skopeo; None: choose one.

    `certificates` is the directory with ca.crt, client.cert and client.key. `tell` receives messages.
    """
    archive = image.startswith(_TRANSPORTS)
    _judge_image(image)
    if not all((certificates / name).is_file() for name in _FILES):
        raise GridAppsError(
            "There is no client certificate on this machine; create one with: gridapps certificate create",
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
    elif archive:
        _with_skopeo(image, to, certificates, tell)
    else:
        with _saved(image, tell) as source:
            _with_skopeo(source, to, certificates, tell)
    return tool


def _fitting(image: str, to: Target, *, archive: bool, tell: Callable[[str], None]) -> str:
    if archive:
        return "skopeo"
    if _has("docker", image) and not _is_podman("docker"):
        obstacle = _obstacle(to.authority)
        if obstacle is None:
            return "docker"
        if shutil.which("skopeo"):
            tell(f"{obstacle}, so skopeo copies the image.")
            return "skopeo"
        raise GridAppsError(f"{obstacle}; install skopeo, which is not affected.", code="push")
    if _has("podman", image):
        return "podman"
    raise _no_image(image)


def _obstacle(where: str) -> str | None:
    """Why docker cannot push to `where`, or None if it can."""
    if not _engine_address().startswith("unix:"):
        return "The docker engine is on another machine, whose certificates cannot be set up from here"
    if _on_loopback(where):
        return "docker reads no certificates for registries on loopback addresses"
    directory = _certs_d() / where
    existing = next(each for each in (directory, *directory.parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"This user may not write to {directory}"
    with reading(directory):
        if directory.exists() and {each.name for each in directory.iterdir()} - set(_FILES):
            return f"{directory} contains files of other programs"
    return None


def _engine_address() -> str:
    """Where the docker command finds its engine: DOCKER_HOST, or the present context's address."""
    context = asked(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"])
    found = context.stdout.strip() if context.returncode == 0 else ""
    return os.environ.get("DOCKER_HOST") or found or "unix:"


def _is_podman(program: str) -> bool:
    """Whether the program is podman under another name, as the package podman-docker installs it."""
    return asked([program, "--version"]).stdout.startswith("podman")


def _has(program: str, image: str) -> bool:
    return shutil.which(program) is not None and _succeeds([program, "image", "inspect", image])


def _no_image(image: str) -> GridAppsError:
    if shutil.which("docker") and not _succeeds(["docker", "version", "--format", "{{.Server.Version}}"]):
        return GridAppsError(
            "The docker engine does not answer, so its images cannot be seen: start it (as root: systemctl "
            "start docker), or check DOCKER_HOST and that you may use it (docker version says why).",
            code="push",
        )
    return GridAppsError(f"Neither docker nor podman has an image {image!r}; build it first.", code="push")


def _judge_tag(tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise GridAppsError(
            f"{tag!r} is not a tag: at most 128 letters, digits, '.', '_' and '-'.", code="usage"
        )


def _judge_image(image: str) -> None:
    if not image.startswith(_TRANSPORTS) and not _IMAGE.fullmatch(image):
        raise GridAppsError(f"{image!r} is not the name of an image.", code="usage")


@contextmanager
def _saved(image: str, tell: Callable[[str], None]) -> Iterator[str]:
    """The image as an archive, in the notation of skopeo. The archive is removed afterwards."""
    program = next((each for each in ("docker", "podman") if _has(each, image)), None)
    if program is None:
        raise _no_image(image)
    place = Path(tempfile.gettempdir())
    with writing(place), tempfile.TemporaryDirectory(prefix="gridapps-") as directory:
        archive = Path(directory, "image.tar")
        _run([program, "save", "-o", str(archive), image], tell, what="save")
        yield f"docker-archive:{archive}"


def _with_skopeo(source: str, to: Target, certificates: Path, tell: Callable[[str], None]) -> None:
    _run(["skopeo", "copy", "--dest-cert-dir", str(certificates), source, f"docker://{to.reference}"], tell)


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
        # Removes the name only; the image keeps its own.
        if not named_already:
            _succeeds(["docker", "image", "rm", "--no-prune", to.reference])


def _set_up(directory: Path, certificates: Path, tell: Callable[[str], None]) -> None:
    with reading(certificates):
        wanted = {name: (certificates / name).read_text() for name in _FILES}
    with reading(directory):
        if all(
            (directory / name).is_file() and (directory / name).read_text() == text
            for name, text in wanted.items()
        ):
            return
    tell(f"Writing the client certificate to {directory}, where docker looks for it.")
    with writing(directory.parent):
        directory.parent.mkdir(parents=True, exist_ok=True)
    replace_directory(directory, wanted)


def _certs_d() -> Path:
    """Where the docker engine looks for certificates; a rootless one looks below its user's home."""
    options = asked(["docker", "info", "--format", "{{.SecurityOptions}}"])
    if "name=rootless" in options.stdout:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "docker/certs.d"
    return Path("/etc/docker/certs.d")


def _on_loopback(where: str) -> bool:
    host = where.rpartition(":")[0].strip("[]") if ":" in where else where
    try:
        found = {ipaddress.ip_address(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    # docker treats only 127.0.0.0/8 as loopback.
    return any(address.version == 4 and address.is_loopback for address in found)


def _succeeds(command: list[str]) -> bool:
    return asked(command).returncode == 0


def _run(command: list[str], tell: Callable[[str], None], *, what: str = "push") -> None:
    tell("$ " + " ".join(command))
    # The tools print progress to standard output, which is reserved for the result.
    shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    with started(command[0]):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.PIPE, check=False
        )
    if done.returncode != 0:
        raise GridAppsError(
            refusal(done.stderr.decode(errors="replace"), tool=command[0], what=what), code="push"
        )


def refusal(printed: str, *, tool: str, what: str = "push") -> str:
    """Why `tool` failed, from its output: the registry's message if there is one. `what` it did."""
    texts = [line.strip() for line in printed.splitlines() if line.strip()]
    last = texts[-1] if texts else "it printed nothing"
    logged = _SKOPEO.search(last)
    if logged:
        last = logged["text"].replace('\\"', '"').replace("\\\\", "\\")
    words = _REFUSAL.search(last)
    if words:
        return f"The registry refused the image: {plain(words['text'])}"
    return f"{tool} could not {what} the image: {plain(last.removeprefix('Error: '))}"
