"""Short-lived bearer tokens for the two registries: ES256, signed with the instance's key.

Source: the token authentication of CNCF Distribution. Version 2.8 requires `aud` as a string and `x5c` in the
header.
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import jwt
from cryptography.hazmat.primitives import serialization

from gridapps.pki import authority

ISSUER = "gridapps"
LIFETIME = timedelta(seconds=60)
# An engine cannot get a new token during a pull, and the last layer of a large image starts late. The token
# reads one repository, and the registry listens on the loopback only.
PULL_LIFETIME = timedelta(hours=1)


class Registry(StrEnum):
    """The two registries. The values are the audiences of tokens: each registry accepts only its own."""

    DEVELOPER = "gridapps-registry"
    TRUSTED = "gridapps-trusted-registry"


def registry_token(
    access: Mapping[str, Sequence[str]],
    *,
    subject: str,
    lifetime: timedelta = LIFETIME,
    registry: Registry = Registry.DEVELOPER,
) -> str:
    """A token that allows the actions (pull, push, delete) on each repository in `access`."""
    certificate, key = authority.signer()
    now = datetime.now(UTC)
    claims = {
        "iss": ISSUER,
        "aud": registry.value,
        "sub": subject,
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": secrets.token_hex(16),
        "access": [
            {"type": "repository", "name": name, "actions": list(actions)} for name, actions in access.items()
        ],
    }
    leaf = certificate.public_bytes(serialization.Encoding.DER)
    return jwt.encode(claims, key, algorithm="ES256", headers={"x5c": [base64.b64encode(leaf).decode()]})


def pull_token(repository: str, *, registry: Registry = Registry.DEVELOPER) -> str:
    """A token that lets a node's engine pull the images of one repository."""
    return registry_token({repository: ["pull"]}, subject="node", lifetime=PULL_LIFETIME, registry=registry)
