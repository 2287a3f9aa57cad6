"""Attachments that arrive before their release, as `oras cp -r` and `cosign copy` send them.

They were judged and are in the registry, where they count against the quota. The sweep removes them there
like everything else that no release needs.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from gridapps.oci.documents import Invalid
from gridapps.registry.models import App, Certificate, PendingAttachment

MAX_PENDING = 64  # manifests of one App
KEPT = timedelta(hours=24)  # as long as the sweep keeps what no release needs


def pending_for(app: App, subjects: Collection[str]) -> QuerySet[PendingAttachment]:
    """The pending attachments of any of these digests, oldest first."""
    return app.pending_attachments.filter(subject__in=subjects, pushed_at__gt=_oldest())


def require_few(app: App, *, manifest: str, tag: str) -> None:
    """Raise Invalid if one more manifest cannot be pending."""
    others = app.pending_attachments.filter(pushed_at__gt=_oldest()).exclude(manifest=manifest)
    if tag:
        others = others.exclude(tag=tag)
    if others.count() >= MAX_PENDING:
        raise Invalid(
            f"{app} has no release with this digest, and {MAX_PENDING} attachments wait for their release "
            "already: push the image first, and attach to its digest."
        )


def add(app: App, *, subject: str, manifest: str, tag: str, certificate: Certificate) -> None:
    """Record a pending manifest, which replaces an earlier one with the same tag.

    The caller holds the App's lock.
    """
    remove_expired()
    if tag:
        app.pending_attachments.filter(tag=tag).delete()
    PendingAttachment.objects.update_or_create(
        app=app,
        manifest=manifest,
        defaults={"subject": subject, "tag": tag, "pushed_at": timezone.now(), "certificate": certificate},
    )


def remove_expired() -> None:
    """Remove the attachments whose release did not arrive in time."""
    PendingAttachment.objects.filter(pushed_at__lte=_oldest()).delete()


def _oldest() -> datetime:
    return timezone.now() - KEPT
