"""The quota: how much disk the images of one developer take, and the limits that a push must respect.

The other limit is the floor of free disk, for all developers together.

Usage is measured in the developer registry's storage each time: everything in the repositories of the
developer's Apps, deleted Apps included, and uploads. A request that states the length of its body reserves
that many bytes. Any other gets a portion of what is left, and nginx ends it when it sends more. Reservations
count while the request lasts, so that concurrent uploads stay below the limit together.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from django.conf import settings

from gridapps.access.models import User
from gridapps.pki.tokens import Registry
from gridapps.pushes import disk
from gridapps.pushes.disk import STORAGE, Disk, Files, Upload
from gridapps.pushes.permits import Denied, Subject
from gridapps.pushes.portions import portions
from gridapps.registry.models import App
from gridapps.sandbox.resources import shown
from gridapps.storage import free_disk
from gridapps.storage.free_disk import DiskNearlyFull, FreeDisk, nearly_full

# Bytes of files and directories that each blob, tag or upload needs beside its content. Without them, many
# one-byte blobs could fill the disk.
AROUND = 16 * 1024
# Seconds without a byte after which a reservation lapses, unless a process has the upload's file open.
PATIENCE = 15.0


def used(user: User) -> int:
    """Bytes that the images of a developer's Apps take, uploads included."""
    return _used(disk.developers(), user)


def require_within(user: User, *, more: int) -> None:
    """Raise Denied unless the developer's images may take `more` bytes than now, and the disk has them."""
    _require_free_disk(more)
    if (limit := settings.GRIDAPPS.max_registry) and used(user) + more > limit:
        raise _full(user)


def admit_upload(user: User, subject: Subject, *, length: int | None) -> int | None:
    """Admit a request of an upload. Returns the most bytes that its body may have, if `length` is unknown.

    Raises Denied if the developer's images would exceed the limit, or the disk its floor.
    """
    if subject.begins:
        require_within(user, more=AROUND)
        return None
    if not settings.GRIDAPPS.max_registry and not settings.GRIDAPPS.min_free_disk:
        return None
    with _alone():
        there = disk.developers()
        path = there.repository(subject.repository).upload(subject.upload)
        arrived = disk.size_of(path / "data")
        left, refusal = min(_remaining(there, user, path, arrived), key=lambda each: each[0])
        portion = _portion(left) if length is None else None
        wanted = portion if length is None else length
        if wanted is None or wanted > left:
            raise refusal()
        try:
            (path / "promised").write_text(str(arrived + wanted))
            (path / "promised").chmod(0o640)  # for the housekeeper
        except FileNotFoundError:
            pass  # there is no such upload: the registry answers 404
        except OSError as error:
            raise Denied(f"The instance cannot store it now: {error.strerror}. Try again later.") from None
        return portion


def _remaining(
    there: Disk, user: User, path: Path, arrived: int
) -> Iterator[tuple[int, Callable[[], Denied]]]:
    """The bytes that an upload may still take for each of the limits, and the refusal beyond it."""
    if limit := settings.GRIDAPPS.max_registry:
        yield limit - _used(there, user, but=path) - arrived - AROUND, lambda: _full(user)
    if settings.GRIDAPPS.min_free_disk:
        free = _free_disk()
        every = (each for name in there.repositories() for each in there.repository(name).uploads())
        promised = _promised([each for each in every if each.path != path])
        yield max(free.left - promised, 0), lambda: Denied(str(nearly_full(free)))


def _require_free_disk(more: int) -> None:
    try:
        free_disk.require(_storage(), floor=settings.GRIDAPPS.min_free_disk, more=more)
    except DiskNearlyFull as error:
        raise Denied(str(error)) from None


def _free_disk() -> FreeDisk:
    return free_disk.measure(_storage(), floor=settings.GRIDAPPS.min_free_disk)


def _storage() -> Path:
    return settings.DATA / STORAGE[Registry.DEVELOPER]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Exclude all other requests, of every process, between measuring and reserving."""
    directory = settings.DATA / "run" / "reading"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "quota").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _portion(left: int) -> int | None:
    """Half of what is left, so that concurrent uploads get some too; None if that is too little."""
    fitting = [portion for portion in portions(settings.GRIDAPPS.max_image) if portion <= left // 2]
    return max(fitting, default=None)


def _full(user: User) -> Denied:
    return Denied(
        f"The quota is exceeded: the images of {user.username}'s Apps take {shown('disk', used(user))}, and "
        f"this instance allows a developer {shown('disk', settings.GRIDAPPS.max_registry)}. Delete Apps that "
        "you no longer need, or ask an administrator. Content that no release needs is removed within two "
        "days."
    )


def _used(there: Disk, user: User, *, but: Path | None = None) -> int:
    names = App.objects.filter(owner=user.pk).order_by("pk").values_list("app_id", flat=True)
    repositories = [there.repository(name) for name in names]
    uploads = [upload for each in repositories for upload in each.uploads() if upload.path != but]
    arrived = sum(each.size for each in uploads)
    return _linked(there, repositories) + arrived + _promised(uploads) + AROUND * len(uploads)


def _promised(uploads: list[Upload]) -> int:
    """Bytes that these uploads may still receive in their current requests."""
    unfinished = [each for each in uploads if each.promised > each.size]
    # Finding out which files are open takes milliseconds, so only paused uploads are looked up.
    paused = [each for each in unfinished if each.touched < time.time() - PATIENCE]
    over = {each.path for each in paused} - disk.being_written(paused)
    return sum(each.promised - each.size for each in unfinished if each.path not in over)


def _linked(there: Disk, repositories: list[Files]) -> int:
    """Bytes of the blobs and tags of these repositories. A blob in two of them counts once."""
    blobs = {name for each in repositories for name in each.linked()}
    tags = sum(each.count_tags() for each in repositories)
    return there.sizes(blobs) + AROUND * (len(blobs) + tags)
