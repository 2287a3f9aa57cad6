"""Uploads to the developer registry that ended before their end.

If one cannot go on, because its portion is used up or the disk is nearly full, what has arrived is removed at
once: otherwise it would count for the quota, and take the disk, until housekeeping finds it idle.
"""

import shutil

from django.conf import settings

from gridapps.access.refusals import Refused
from gridapps.pki.tokens import Registry
from gridapps.pushes import disk
from gridapps.pushes.permits import Subject
from gridapps.sandbox.resources import shown
from gridapps.storage import free_disk


class PortionUsedUp(Refused):
    """An upload of unknown length used up its portion."""

    code = "too-large"


class DiskFilled(Refused):
    """The disk is nearly full, because other programs take it."""

    code = "insufficient-storage"


class RegistryBrokeOff(Refused):
    """The registry does not answer; the upload may go on later."""

    code = "unavailable"


def refusal_of(subject: Subject, *, used_up: bool) -> Refused:
    """What to tell the client. `used_up`: nginx ended the request because its body had no length."""
    if used_up:
        _remove(subject)
        return PortionUsedUp(
            "The upload is too large: an image may have at most "
            f"{shown('disk', settings.GRIDAPPS.max_image)}, and an upload of unknown length at most half of "
            "your remaining quota (`gridapps developer show`) and of the disk that is free."
        )
    storage = settings.DATA / disk.STORAGE[Registry.DEVELOPER]
    found = free_disk.measure(storage, floor=settings.GRIDAPPS.min_free_disk)
    if subject.upload and found.is_short:
        _remove(subject)
        return DiskFilled(str(free_disk.nearly_full(found)))
    return RegistryBrokeOff("The instance is not available; try again in a moment.")


def _remove(subject: Subject) -> None:
    if subject.upload:
        path = disk.developers().repository(subject.repository).upload(subject.upload)
        shutil.rmtree(path, ignore_errors=True)
