"""Images as documents: what a push consists of, good until a test spoils it."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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


UNKNOWN = {"os": "unknown", "architecture": "unknown"}
IN_TOTO = "application/vnd.in-toto+json"
ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
PROVENANCE, SPDX_DOCUMENT = "https://slsa.dev/provenance/v0.2", "https://spdx.dev/Document"


@dataclass
class Attestation:
    """What a builder attests of an image, in one of the layouts of buildx. Change the parts first."""

    image: bytes  # its manifest
    layout: str = "image"  # or "artifact", "subjectless"
    predicates: Sequence[str] = (PROVENANCE,)
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the manifest
    config: bytes = b""  # by default what the layout has

    @property
    def documents(self) -> list[bytes]:
        subject = [{"name": "pkg:docker/app@1", "digest": {"sha256": digest(self.image)[7:]}}]
        return [
            encoded({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": each, "subject": subject})
            for each in self.predicates
        ]

    @property
    def blobs(self) -> list[bytes]:
        diff_ids = [digest(each) for each in self.documents]
        like_an_image = {**UNKNOWN, "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        own = encoded(like_an_image) if self.layout == "image" else b"{}"
        return [self.config or own, *self.documents]

    @property
    def manifest(self) -> bytes:
        config, *documents = self.blobs
        layers = [
            descriptor(each, IN_TOTO, annotations={"in-toto.io/predicate-type": predicate})
            for each, predicate in zip(documents, self.predicates, strict=True)
        ]
        head: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
        if self.layout == "image":
            head["config"] = descriptor(config, CONFIG)
        else:
            head["artifactType"] = ARTIFACT
            head["config"] = descriptor(config, "application/vnd.oci.empty.v1+json", data="e30=")
        if self.layout == "artifact":
            head["subject"] = descriptor(self.image, OCI_MANIFEST)
        return encoded({**head, "layers": layers, **self.changes})

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in the index."""
        annotations = {
            "vnd.docker.reference.digest": digest(self.image),
            "vnd.docker.reference.type": "attestation-manifest",
        }
        return entry(self.manifest, UNKNOWN, annotations=annotations)


def write_layout(directory: Path, top: bytes, *parts: Image | Attestation, tag: str = "v1") -> None:
    """Write an index or manifest with everything in it as an OCI image layout."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in (top, *(each for part in parts for each in (part.manifest, *part.blobs))):
        (blobs / digest(blob).removeprefix("sha256:")).write_bytes(blob)
    kind = json.loads(top)["mediaType"]
    named = descriptor(top, kind, annotations={"org.opencontainers.image.ref.name": tag})
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (directory / "index.json").write_bytes(encoded(index(named)))
