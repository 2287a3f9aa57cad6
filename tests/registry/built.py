"""Images as documents: what a push consists of, good until a test spoils it."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def descriptor(content: bytes, media_type: str, **other: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content), **other}


def layer(name: str = "program", content: bytes = b"") -> bytes:
    """A compressed layer with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def diff_id(content: bytes) -> str:
    """The digest of what is in a compressed layer, or of the bytes if they are none."""
    return digest(gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content)


def config(*, layers: Sequence[bytes] = (layer(),), **changes: Any) -> dict[str, Any]:
    """An image configuration that is taken; `changes` replace parts of it."""
    return {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Entrypoint": ["/program"], "Cmd": ["--fast"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id(each) for each in layers]},
        **changes,
    }


@dataclass
class Image:
    """One image. `manifest` and `blobs` follow from the parts; change the parts first."""

    config: bytes = b""  # by default what fits the layers
    layers: list[bytes] = field(default_factory=lambda: [layer()])

    def __post_init__(self) -> None:
        self.config = self.config or encoded(config(layers=self.layers))

    @property
    def document(self) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(self.config, CONFIG),
            "layers": [descriptor(each, LAYER) for each in self.layers],
        }

    @property
    def manifest(self) -> bytes:
        return encoded(self.document)

    @property
    def blobs(self) -> list[bytes]:
        return [self.config, *self.layers]


def entry(manifest: bytes, platform: Mapping[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    """An entry of an index; by default for linux/amd64."""
    chosen = {"os": "linux", "architecture": "amd64"} if platform is None else platform
    return descriptor(manifest, OCI_MANIFEST, platform=chosen, **other)


def index(*entries: Mapping[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
