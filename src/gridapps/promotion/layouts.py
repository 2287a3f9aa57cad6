"""Writing images as directories for scanners: the OCI image layout of the OCI image specification 1.0."""

import hashlib
import json
from pathlib import Path

from gridapps.oci.manifests import OCI_INDEX
from gridapps.promotion.contents import ReleaseContents, Spoiled
from gridapps.pushes.registry_client import Repository


def write_layout(directory: Path, contents: ReleaseContents, source: Repository, *, top: str) -> None:
    """Write the image whose manifest or index is `top`. Blobs are read from `source` and verified.

    Raises Spoiled, NotInRegistry, Unavailable, OSError.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, (content, _) in contents.manifests.items():
        _file(blobs, digest).write_bytes(content)
    for digest, size in contents.blobs.items():
        _write_blob(_file(blobs, digest), source, digest, size)
    content, media_type = contents.manifests[top]
    entry = {"mediaType": media_type, "digest": top, "size": len(content)}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def _file(blobs: Path, digest: str) -> Path:
    return blobs / digest.removeprefix("sha256:")


def _write_blob(path: Path, source: Repository, digest: str, size: int) -> None:
    hashed, length = hashlib.sha256(), 0
    with path.open("wb") as file, source.reading(digest) as chunks:
        for chunk in chunks:
            length += len(chunk)
            if length > size:
                break
            hashed.update(chunk)
            file.write(chunk)
    if length != size or f"sha256:{hashed.hexdigest()}" != digest:
        raise Spoiled(
            f"The blob {digest} in the trusted registry differs from the one that was copied there."
        )
