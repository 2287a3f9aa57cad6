"""Client certificates of nodes. With one, the engine of another machine pulls images through the TLS port."""

import re
from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from gridapps.access.models import User
from gridapps.access.refusals import Refused
from gridapps.audit import record
from gridapps.pki import credentials
from gridapps.pki.credentials import Credentials, issue_credentials
from gridapps.registry.models import NodeCertificate

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class InvalidNode(Refused):
    """There is no such node, or the name cannot be one."""

    code = "invalid-request"


@dataclass(frozen=True, kw_only=True)
class IssuedToNode(Credentials):
    """A new certificate of a node."""

    certificate: NodeCertificate


def issued() -> QuerySet[NodeCertificate]:
    """All certificates that were ever issued to nodes, by node, newest first."""
    return NodeCertificate.objects.all()


def issue(*, by: User | None, node: str, days: int) -> IssuedToNode:
    """Issue a certificate to a node. Its earlier ones stay valid until they are revoked.

    `by` None is the operator of the instance. Raises InvalidNode.
    """
    if not re.fullmatch(NAME, node):
        raise InvalidNode(f"A node's name is 1 to 63 of a-z, 0-9 and -, not {node!r}.")
    made, held = issue_credentials(common_name=f"node {node}", days=days)
    with transaction.atomic():
        certificate = NodeCertificate.objects.create(node=node, **credentials.facts_of(made))
        record.node_certificate_issued(by=by, node=node, serial=certificate.serial)
    return IssuedToNode(certificate=certificate, pem=held.pem, key=held.key, ca=held.ca)


def revoke(*, by: User | None, node: str) -> int:
    """Revoke all certificates of a node, so that its engine can no longer pull. Returns how many were valid.

    Raises InvalidNode if the node never had one.
    """
    held = issued().filter(node=node)
    if not held.exists():
        raise InvalidNode(f"Node {node!r} has no certificate.")
    with transaction.atomic():
        count = held.filter(revoked_at__isnull=True).update(revoked_at=timezone.now())
        if count:
            record.node_certificate_revoked(by=by, node=node, revoked=count)
    return count
