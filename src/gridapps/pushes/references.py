"""References and tokens with which a container engine pulls images, and what those run.

The engine on the instance's own machine pulls from the loopback with a token. On another node it pulls
through the instance's TLS port with the node's certificate. Images are pulled by digest, never by tag.
"""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings

from gridapps.pki import tokens
from gridapps.pki.tokens import Registry
from gridapps.pushes.permits import TRUSTED_PREFIX
from gridapps.pushes.registry_client import Repository
from gridapps.registry.models import App, Release
from gridapps.sandbox.protocol import EntryPoint


@dataclass(frozen=True)
class ImagePull:
    """What an engine needs to pull one image. `token` returns a fresh token, or an empty string where the
    engine presents the node's certificate instead."""

    reference: str
    token: Callable[[], str]


def repository_name(app: App, registry: Registry) -> str:
    """The name of an App's repository in a registry; for the trusted one, also its name at the TLS port."""
    return f"{TRUSTED_PREFIX}{app.app_id}" if registry is Registry.TRUSTED else app.app_id


def repository_of(app: App, registry: Registry) -> Repository:
    """The App's repository in one of the registries."""
    return Repository(repository_name(app, registry), registry)


def entry_point(release: Release) -> EntryPoint | None:
    """What the release runs, as recorded at its push; None if it was pushed before that was recorded."""
    if release.environment is None:
        return None
    return EntryPoint(
        command=[*release.entrypoint, *release.command],
        workdir=release.workdir or "/",
        environment=release.environment,
    )


def pull_of(release: Release, registry: Registry = Registry.DEVELOPER) -> ImagePull:
    """How this node pulls the release."""
    limits, member = settings.GRIDAPPS, settings.MEMBERSHIP
    port = limits.trusted_port if registry is Registry.TRUSTED else limits.registry_port
    host = member.authority if member else f"127.0.0.1:{port}"
    repository = repository_name(release.app, registry)
    return ImagePull(
        reference=f"{host}/{repository}@{release.image or release.digest}",
        token=lambda: "" if member else tokens.pull_token(repository, registry=registry),
    )
