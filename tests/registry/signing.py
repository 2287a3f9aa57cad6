"""Attachments as cosign and oras write them, good until a test spoils them, and the keys of signers."""

import base64
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from gridapps.oci import sigstore_bundles
from gridapps.oci.attachments import SIGNATURE, SIMPLE_SIGNING
from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from gridapps.oci.sigstore_bundles import BUNDLE, IMAGE_SIGNED
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


def sign(key: Private, content: bytes, algorithm: hashes.HashAlgorithm | None = None) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        made = key.sign(content, ec.ECDSA(algorithm or hashes.SHA256()))
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


def statement(release: str, **changes: Any) -> dict[str, Any]:
    """What cosign 3 signs."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": release.removeprefix("sha256:")}, "annotations": {}}],
        "predicateType": IMAGE_SIGNED,
        "predicate": {},
        **changes,
    }


def envelope(content: bytes, *keys: Private, **changes: Any) -> dict[str, Any]:
    """A statement in an envelope with a signature of each key."""
    return {
        "payload": base64.b64encode(content).decode(),
        "payloadType": sigstore_bundles.IN_TOTO,
        "signatures": [{"sig": sign(key, sigstore_bundles.encoded(content))} for key in keys],
        **changes,
    }


def bundle(wrapped: dict[str, Any], **changes: Any) -> bytes:
    """An envelope in a Sigstore bundle."""
    material = {"publicKey": {"hint": "qJQ0nfT8Fr9bsk2KjY7KsJJKt5yLTjAb0A67BNStNp8="}}
    return encoded(
        {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": wrapped, **changes}
    )


def bundle_manifest(subject: dict[str, Any], *bundles: bytes, predicate: str = IMAGE_SIGNED) -> bytes:
    """A manifest of Sigstore bundles."""
    return attachment(
        *(descriptor(each, BUNDLE) for each in bundles),
        kind="application/vnd.oci.empty.v1+json", artifactType=BUNDLE, subject=subject,
        annotations={"dev.sigstore.bundle.content": "dsse-envelope", sigstore_bundles.PREDICATE: predicate},
    )  # fmt: skip
