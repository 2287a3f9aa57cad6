"""The bundle that makes another machine a node. It is created on the first machine and unpacked on the other.

It contains what an engine needs to pull images, and the instance's name, but no key of the instance.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

DIRECTORY = "node"  # in the data directory
FACTS = "node.json"
CERTIFICATES = ("ca.crt", "client.cert", "client.key")  # the names that container engines expect
_LARGEST = 64 * 1024  # bytes of a file in a bundle


class InvalidBundle(ValueError):
    """The file is not a bundle of `gridapps-server node add`."""


@dataclass(frozen=True, kw_only=True)
class Membership:
    """The node and the instance that a data directory belongs to."""

    node: str
    instance: str  # the instance's short name, which is in labels of containers
    authority: str  # host and port of the instance, as in references of images


def load(data: Path) -> Membership | None:
    """The membership of a data directory; None for the instance's own."""
    path = data / DIRECTORY / FACTS
    return Membership(**json.loads(path.read_text())) if path.exists() else None


def dump(membership: Membership) -> bytes:
    """The membership as `load` reads it."""
    return json.dumps(asdict(membership)).encode()


def pack(membership: Membership, certificates: Mapping[str, str]) -> bytes:
    """The bundle of a node, a tar archive. `certificates` maps each of CERTIFICATES to its text."""
    files = {FACTS: dump(membership), **{name: text.encode() for name, text in certificates.items()}}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(bundle: bytes) -> tuple[Membership, dict[str, bytes]]:
    """The membership and the certificates in a bundle, after checks. Raises InvalidBundle."""
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
            files = {
                name: file.read(_LARGEST)
                for name in (FACTS, *CERTIFICATES)
                if (file := tar.extractfile(name)) is not None
            }
        membership = Membership(**{key: str(value) for key, value in json.loads(files.pop(FACTS)).items()})
        key = serialization.load_pem_private_key(files["client.key"], password=None)
        certificate = x509.load_pem_x509_certificate(files["client.cert"])
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files["ca.crt"]))
    except Exception as error:
        why = (str(error) or type(error).__name__).partition("\n")[0].rstrip(":")
        raise InvalidBundle(f"This is not a bundle of `gridapps-server node add` ({why}).") from error
    if key.public_key() != certificate.public_key():
        raise InvalidBundle("The bundle's key does not belong to its certificate.")
    # The authority is used in paths and in references of images.
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+:[0-9]{1,5}", membership.authority):
        raise InvalidBundle(f"The bundle names {membership.authority!r}, which is not a host and port.")
    return membership, files
