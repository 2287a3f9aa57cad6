"""Which exports a user may see."""

from django.db.models import QuerySet

from gridapps.access.models import User
from gridapps.exports.models import Export


def visible_to(user: User) -> QuerySet[Export]:
    """The user's own exports, newest first. Administrators see others' exports only in the administration."""
    return (
        Export.objects.filter(owner=user, deleted_at=None).select_related("owner").prefetch_related("files")
    )
