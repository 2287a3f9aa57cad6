"""Images as a node's container engine pulls them: under which name, and by which right.

On the instance's own machine it is the loopback with a token; on another node the instance's one TLS port,
with the node's certificate, which the engine itself holds.
"""

from django.conf import settings

from gridapps.registry import tokens
from gridapps.registry.models import Release


def reference(release: Release) -> str:
    """What this node's engine pulls: by the pushed digest, never by a tag."""
    member = settings.MEMBERSHIP
    registry = member.authority if member else f"127.0.0.1:{settings.GRIDAPPS.registry_port}"
    return f"{registry}/{release.app.app_id}@{release.digest}"


def token(release: Release) -> str:
    """The token to pull it with; empty where the engine shows the node's certificate instead."""
    return "" if settings.MEMBERSHIP else tokens.pull_token(release.app.app_id)
