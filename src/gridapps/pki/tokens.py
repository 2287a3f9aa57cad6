"""Short-lived bearer tokens of the two registries: ES256, signed with the instance's own key.

Source: the token authentication of CNCF Distribution; its 2.8 wants `aud` as a string and `x5c` in the head.
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
# A node cannot ask for a new token in the middle of a pull, and the last layer of a large image starts late.
# The token reads one repository, and only from the loopback where the registry listens.
PULL_LIFETIME = timedelta(hours=1)


class Registry(StrEnum):
    """The registries, as tokens name them: each takes its own tokens alone."""

    DEVELOPER = "gridapps-registry"
    TRUSTED = "gridapps-trusted-registry"


def registry_token(
    access: Mapping[str, Sequence[str]],
    *,
    subject: str,
    lifetime: timedelta = LIFETIME,
    registry: Registry = Registry.DEVELOPER,
) -> str:
    """A token that allows the actions (pull, push, delete) on each repository of `access`; empty: none."""
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
    """A token with which a node's engine may pull the images of one repository."""
    return registry_token({repository: ["pull"]}, subject="node", lifetime=PULL_LIFETIME, registry=registry)
