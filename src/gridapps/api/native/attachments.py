"""Attachments of releases, as the API shows them."""

from collections.abc import Mapping
from typing import Any

from gridapps.api.native.shapes import Attachment


def shown(entry: Mapping[str, Any]) -> Attachment:
    """An attachment as `registry.kept_attachments.entry` has it."""
    return Attachment(
        kind=entry["kind"],
        digest=entry["digest"],
        media_type=entry["media_type"],
        size=entry["size"],
        subject=entry.get("subject") or None,
        verified_by=entry["verified_by"] or None,
    )
