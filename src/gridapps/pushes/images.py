"""Images as a node's container engine pulls them: under which name, and by which right.

On the instance's own machine it is the loopback with a token; on another node the instance's one TLS port,
with the node's certificate, which the engine itself holds. It is by digest, never by a tag.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from gridapps.pki import tokens
from gridapps.pki.tokens import Service
from gridapps.pushes.distribution import Repository
from gridapps.pushes.permits import TRUSTED_PREFIX
from gridapps.registry.models import App, Release
from gridapps.registry.queries import Source


@dataclass(frozen=True)
class Pull:
    """What an engine needs to pull one image. `token` makes a fresh token; it is empty where the engine shows
    the node's certificate instead."""

    reference: str
    token: Callable[[], str]


def trusted_repository(app: App) -> str:
    """The name of an App's repository in the trusted registry, and at the TLS port for nodes."""
    return f"{TRUSTED_PREFIX}{app.app_id}"


def pull_of(release: Release, source: Source = Source.DEVELOPER) -> Pull:
    """How this node pulls the release."""
    if source is Source.TRUSTED:
        port, repository = settings.GRIDAPPS.trusted_port, trusted_repository(release.app)
        service = Service.TRUSTED
    else:
        port, repository, service = settings.GRIDAPPS.registry_port, release.app.app_id, Service.DEVELOPER
    member = settings.MEMBERSHIP
    registry = member.authority if member else f"127.0.0.1:{port}"
    return Pull(
        reference=f"{registry}/{repository}@{release.digest}",
        token=lambda: "" if member else tokens.pull_token(repository, service=service),
    )


def repository_of(app: App, source: Source) -> Repository:
    """The App's repository in one of the registries."""
    if source is Source.TRUSTED:
        return Repository(trusted_repository(app), Service.TRUSTED)
    return Repository(app.app_id)
