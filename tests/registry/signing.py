"""Attachments as cosign and oras write them, good until a test spoils them, and the keys of signers."""

import base64
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from gridapps.oci.attachments import SIGNATURE, SIMPLE_SIGNING
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.registry.built import CONFIG, descriptor, encoded

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
SPDX = "text/spdx+json"
EMPTY = b"{}"


def tag_of(release: str, suffix: str = ".sig") -> str:
    return release.replace(":", "-") + suffix


def payload(release: str, **critical: Any) -> bytes:
    """What cosign signs."""
    return encoded(
        {
            "critical": {
                "identity": {"docker-reference": "elsewhere.example/roads"},
                "image": {"docker-manifest-digest": release},
                "type": "cosign container image signature",
                **critical,
            },
            "optional": None,
        }
    )


def sign(key: Private, content: bytes) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        made = key.sign(content, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPrivateKey):
        made = key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    else:
        made = key.sign(content)
    return base64.b64encode(made).decode()


def signature(content: bytes, signed: str) -> dict[str, Any]:
    """The layer of a signature."""
    return descriptor(content, SIMPLE_SIGNING, annotations={SIGNATURE: signed})


def attachment(*layers: dict[str, Any], config: bytes = EMPTY, kind: str = CONFIG, **more: Any) -> bytes:
    """A manifest of attachments."""
    head = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config, kind)}
    return encoded({**head, "layers": list(layers), **more})


def listing(*listed: bytes) -> bytes:
    """The index in which clients keep what a registry does not list itself."""
    entries = [descriptor(each, OCI_MANIFEST, artifactType=SPDX) for each in listed]
    return encoded({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def write_public(key: Private, path: Path) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
