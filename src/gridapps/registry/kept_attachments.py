"""The entries that a share keeps about the attachments of its release."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from gridapps.oci import signatures
from gridapps.oci.signatures import Signed, UnusableKeys, Verify
from gridapps.registry.errors import NotShareable
from gridapps.registry.models import Attachment, Release


def verify(release: Release) -> list[dict[str, Any]]:
    """Verify the signatures of a release again. Returns an `entry` for each of its attachments.

    Raises NotShareable if GRIDAPPS_REQUIRE_SIGNATURE requires a signature and there is none.
    """
    try:
        keys = known_keys()
    except UnusableKeys as error:
        raise NotShareable(f"The instance's signature keys cannot be used: {error}") from None
    rows = list(release.attachments.order_by("pk"))
    for row in rows:
        if row.signature:
            row.verified_by = signatures.signing_key(Signed(bytes(row.payload), row.signature), keys=keys)
    Attachment.objects.bulk_update(rows, ["verified_by"])
    found = [entry(row) for row in rows]
    if missing := unsigned(found):
        raise NotShareable(missing)
    return found


def entry(row: Attachment) -> dict[str, Any]:
    """The entry of a share for an attachment."""
    names = ("kind", "media_type", "digest", "size", "verified_by", "manifest", "tag", "subject")
    return {name: getattr(row, name) for name in names}


def unsigned(kept: Iterable[Mapping[str, Any]]) -> str:
    """A sentence if a signature by a known key is required and none of these is one; empty otherwise.

    A signature of an image in the release's index does not count: the index names others as well.
    """
    signed = any(each["verified_by"] and not each.get("subject") for each in kept)
    if signed or not settings.GRIDAPPS.require_signature:
        return ""
    return (
        "This instance shares only what is signed by a key that it knows, and no such signature is attached."
    )


def known_keys() -> Mapping[str, Verify]:
    """The operator's keys. Raises UnusableKeys."""
    return signatures.load_keys(settings.GRIDAPPS.signature_keys)
