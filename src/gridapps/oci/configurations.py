"""Image configurations: what an image runs, and whether it can run here.

Sources: OCI image specification 1.0, Docker image specification 1.2.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gridapps.oci.documents import Invalid, read_document
from gridapps.oci.manifests import ImageManifest, digest_of
from gridapps.oci.wire_types import ContainerConfiguration, ImageConfiguration, typed
from gridapps.sandbox.profile import MAX_ENVIRONMENT

MAX_COMMAND = 64 * 1024  # bytes of ENTRYPOINT and CMD together
PLATFORM = "linux/amd64"
VOLUMES = ("/grid", "/tmp")  # noqa: S108 - names inside the container


class OtherPlatform(Invalid):
    """The image is for another platform."""


@dataclass(frozen=True)
class ImageProgram:
    """What an image runs, and the digests of its uncompressed layers."""

    entrypoint: list[str]
    command: list[str]
    diff_ids: list[str]
    environment: list[str] = field(default_factory=list)  # NAME=value
    workdir: str = "/"


def judge_configuration(content: bytes, *, manifest: ImageManifest) -> ImageProgram:
    """Judge the configuration that belongs to the manifest. Raises Invalid with every reason, and
    OtherPlatform if the platform is one of them."""
    image = _read(content, manifest)
    container = image.config or ContainerConfiguration()
    diff_ids = (image.rootfs and image.rootfs.diff_ids) or []
    reasons = [
        *_faults_of_platform(image),
        *_faults_of_command(container),
        *_faults_of_volumes(container),
        *_faults_of_layers(image, diff_ids, count=len(manifest.layers)),
    ]
    if reasons:
        raise (Invalid if _platform(image) == PLATFORM else OtherPlatform)(*reasons)
    return ImageProgram(
        container.entrypoint or [],
        container.cmd or [],
        diff_ids,
        environment=container.env or [],
        workdir=container.working_dir or "/",
    )


def platform_of(content: bytes, *, manifest: ImageManifest) -> str:
    """The platform that the manifest's configuration names, such as linux/amd64. Raises Invalid."""
    return _platform(_read(content, manifest))


def _read(content: bytes, manifest: ImageManifest) -> ImageConfiguration:
    if len(content) != manifest.config.size or digest_of(content) != manifest.config.digest:
        raise Invalid("The image configuration differs from the one that the manifest names.")
    return typed(read_document(content, what="The image configuration"), ImageConfiguration)


def _platform(image: ImageConfiguration) -> str:
    names = [
        name for name in (image.os, image.architecture) if name and re.fullmatch(r"[a-z0-9]{1,32}", name)
    ]
    return "/".join(names) if len(names) == 2 else "an unknown platform"


def _faults_of_platform(image: ImageConfiguration) -> Iterator[str]:
    if (platform := _platform(image)) != PLATFORM:
        yield f"The image is built for {platform}; build it for {PLATFORM} (--platform {PLATFORM})."


def _faults_of_command(container: ContainerConfiguration) -> Iterator[str]:
    entrypoint, command = container.entrypoint or [], container.cmd or []
    if not entrypoint or not entrypoint[0]:
        yield 'The image has no ENTRYPOINT; add one to the Dockerfile: ENTRYPOINT ["/program"].'
    if _size(entrypoint + command) > MAX_COMMAND:
        yield f"ENTRYPOINT and CMD are longer than {MAX_COMMAND} bytes together."
    if _size(container.env or []) > MAX_ENVIRONMENT:
        yield f"ENV is longer than {MAX_ENVIRONMENT} bytes."


def _faults_of_volumes(container: ContainerConfiguration) -> Iterator[str]:
    for name in container.volumes or ():
        path = posixpath.normpath(name)
        if not any(path == volume or path.startswith(volume + "/") for volume in VOLUMES):
            yield f"The image declares VOLUME {name[:200]!r}; only /grid and /tmp are writable."


def _faults_of_layers(image: ImageConfiguration, diff_ids: Sequence[str], *, count: int) -> Iterator[str]:
    sound = all(re.fullmatch(r"sha256:[0-9a-f]{64}", diff_id) for diff_id in diff_ids)
    if image.rootfs is None or image.rootfs.type != "layers" or len(diff_ids) != count or not sound:
        yield "The image configuration does not list the layers of the manifest."


def _size(words: Sequence[str]) -> int:
    """Bytes that the kernel needs for these words."""
    return sum(len(word.encode()) + 1 for word in words)
