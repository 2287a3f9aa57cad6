"""The quota of uploads: bytes of exports that a user uploaded, and of what the user is uploading.

Files count with the sizes that were announced, from the start of the upload.
"""

from django.conf import settings
from django.db.models import Sum

from gridapps.access.models import User
from gridapps.exports.errors import UploadQuotaExceeded
from gridapps.exports.models import ExportFile, UploadFile


def used(user: User) -> int:
    """Bytes that count."""
    return _kept(user) + _arriving(user)


def require_within(user: User, *, more: int) -> None:
    """Raise UploadQuotaExceeded unless the user may use `more` bytes than now.

    Call it under a lock on the user's row.
    """
    limit = settings.GRIDAPPS.max_uploads
    if not limit:
        return
    kept, arriving = _kept(user), _arriving(user)
    if kept + arriving + more > limit:
        raise UploadQuotaExceeded(
            f"This upload has {sized(more)}, but {sized(max(limit - kept - arriving, 0))} are left: your "
            f"uploaded exports take {sized(kept)} and uploads in progress {sized(arriving)}, "
            f"of {sized(limit)}. "
            "Delete exports or uploads that you no longer need, or ask an administrator."
        )


def sized(size: int) -> str:
    """A size for users."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def _kept(user: User) -> int:
    files = ExportFile.objects.filter(export__owner=user, export__uploaded=True, export__deleted_at=None)
    return files.aggregate(sum=Sum("size"))["sum"] or 0


def _arriving(user: User) -> int:
    files = UploadFile.objects.filter(upload__owner=user, upload__ended_at=None)
    return files.aggregate(sum=Sum("size"))["sum"] or 0
