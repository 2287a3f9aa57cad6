"""Names of images, as a node's container engine pulls them."""

from django.conf import settings

from gridapps.registry.models import Release


def reference(release: Release) -> str:
    """What a node's engine pulls: by the pushed digest, from the loopback, never by a tag."""
    return f"127.0.0.1:{settings.GRIDAPPS.registry_port}/{release.app.app_id}@{release.digest}"
