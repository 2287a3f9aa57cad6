"""Certificates of nodes, with which the engines of other machines pull images through the one TLS port."""

import re
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from gridapps.access.models import User
from gridapps.audit import record
from gridapps.pki import authority
from gridapps.registry import certificates
from gridapps.registry.models import NodeCertificate

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class InvalidNode(ValueError):
    """There is no such node, or there cannot be one of this name."""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A fresh certificate and what belongs to it. This is the only moment when `key` is known here."""

    certificate: NodeCertificate
    pem: str
    key: str
    ca: str


def issued() -> QuerySet[NodeCertificate]:
    """Every certificate that a node was ever issued, by node, the newest first."""
    return NodeCertificate.objects.all()


def issue(*, by: User | None, node: str, days: int) -> Issued:
    """Issue a certificate to a node. Those that it has stay good, so that one can take another's place.

    `by` None is the operator of the instance. Raises InvalidNode.
    """
    if not re.fullmatch(NAME, node):
        raise InvalidNode(f"A node's name is 1 to 63 of a-z, 0-9 and -, not {node!r}.")
    key = ec.generate_private_key(ec.SECP256R1())
    ours = authority.current()
    made = ours.issue_client(key=key.public_key(), common_name=f"node {node}"[:64], days=days)
    with transaction.atomic():
        certificate = NodeCertificate.objects.create(node=node, **certificates.facts(made))
        record.node_certificate_issued(by=by, node=node, serial=certificate.serial)
    return Issued(
        certificate=certificate,
        pem=made.public_bytes(serialization.Encoding.PEM).decode(),
        key=certificates.private_pem(key),
        ca=ours.ca_pem,
    )


def revoke(*, by: User | None, node: str) -> int:
    """Revoke every certificate of a node: from now on its engine pulls nothing. How many were good till now.

    Raises InvalidNode when it never had one.
    """
    held = issued().filter(node=node)
    if not held.exists():
        raise InvalidNode(f"Node {node!r} has no certificate.")
    with transaction.atomic():
        count = held.filter(revoked_at__isnull=True).update(revoked_at=timezone.now())
        if count:
            record.node_certificate_revoked(by=by, node=node, revoked=count)
    return count
