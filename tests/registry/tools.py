"""The tools that developers push with, as programs: docker, podman and skopeo."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import docker

from tests.fixtures.leftovers import TEST_IMAGES

CERTIFICATES_OF_DOCKER = Path("/etc/docker/certs.d")
# podman 4.3 on this kind of machine: cgroup v1 and few open files.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""

# Pushes an image of the engine to a reference with the certificates of a directory: exit status and print.
Push = Callable[[str, str, Path], tuple[int, str]]


def dockers() -> list[str]:
    """Every docker command on this machine: Debian's, and a newer one that stands before it."""
    found = (shutil.which("docker"), "/usr/bin/docker")
    return list(dict.fromkeys(path for path in found if path and Path(path).exists()))


def with_docker(program: str) -> Push:
    def push(image: str, reference: str, certificates: Path) -> tuple[int, str]:
        place = CERTIFICATES_OF_DOCKER / reference.partition("/")[0]
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(certificates, place)
        subprocess.run([program, "tag", image, reference], check=True)
        try:
            return _run([program, "push", reference])
        finally:
            shutil.rmtree(place)
            subprocess.run([program, "rmi", reference], check=True, stdout=subprocess.DEVNULL)

    return push


def with_skopeo(image: str, reference: str, certificates: Path) -> tuple[int, str]:
    return _run(
        ["skopeo", "--insecure-policy", "copy", "--dest-cert-dir", str(certificates),
         f"docker-daemon:{image}", f"docker://{reference}"]
    )  # fmt: skip


def with_podman(home: Path) -> Callable[..., tuple[int, str]]:
    """podman with storage of its own below `home`."""
    configuration = home / "containers.conf"
    configuration.write_text(CONTAINERS_CONF)
    podman = ["podman", "--root", f"{home}/root", "--runroot", f"{home}/run", "--storage-driver", "vfs"]
    environment = {"CONTAINERS_CONF": str(configuration)}

    def push(image: str, reference: str, certificates: Path, *options: str) -> tuple[int, str]:
        archive = home / "image.tar"
        subprocess.run(["docker", "save", "-o", str(archive), image], check=True)
        loaded = _run([*podman, "load", "-q", "-i", str(archive)], environment)
        assert loaded[0] == 0, loaded[1]
        return _run(
            [*podman, "push", *options, "--cert-dir", str(certificates), image, f"docker://{reference}"],
            environment,
        )

    return push


def load(client: docker.APIClient, name: str, *, architecture: str, size: int) -> str:
    """Load an image with one layer of `size` bytes into the engine, for any architecture; its reference."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, "program", hashlib.shake_256(name.encode()).digest(size))  # does not compress
    configuration = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Entrypoint": ["/program"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    reference = f"{TEST_IMAGES}{name}:1"
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add(tar, "config.json", json.dumps(configuration).encode())
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    for _ in client.load_image(archive.getvalue()):
        continue
    return reference


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=120, check=False, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    return done.returncode, done.stdout
