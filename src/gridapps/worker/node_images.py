"""The images that a node keeps. When they exceed a limit, the least recently used are dropped.

An engine drops no images by itself. Every image that the worker pulls is recorded first (`image_records`).
Other images in the engine are left alone. If an image has another name as well, only the worker's name is
removed.

A lease in the process keeps an image that an attempt is about to start. After the start the engine keeps it,
because it drops no image of a container.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gridapps.sandbox.protocol import NoSpace, PullProgress, Sandbox, SandboxError
from gridapps.worker.image_records import ImageRecords

logger = logging.getLogger(__name__)

TRIM = 3600.0  # seconds between two trims if no image was pulled
ONCE_IN = 600.0  # seconds in which other images are dropped at most once for the same image


class NodeImages:
    """The images of one worker in the engine of its sandbox. Calls are thread-safe."""

    def __init__(self, directory: Path, *, sandbox: Sandbox, limit: int) -> None:
        """`limit`: bytes of unpacked images, counting each layer once; 0 means no limit."""
        self._records = ImageRecords(directory)
        self._sandbox = sandbox
        self._limit = limit
        self._changed = threading.Condition()
        self._leases: Counter[str] = Counter()
        self._going: set[str] = set()  # being dropped
        self._trimming = threading.Lock()
        self._freed_for: dict[str, float] = {}  # when others were dropped for an image that did not fit
        self._arriving: set[str] = set()  # recorded, but not pulled yet
        self._grown = True
        self._looked = 0.0

    @contextmanager
    def lease(self, reference: str) -> Iterator[None]:
        """Keep an image. Hold the lease from before the pull until a container uses the image."""
        with self._changed:
            self._changed.wait_for(lambda: reference not in self._going)
            self._leases[reference] += 1
        try:
            yield
        finally:
            with self._changed:
                self._leases[reference] -= 1

    def pull(self, reference: str, *, token: str, timeout: float) -> PullProgress | None:
        """Make the image present, as `Sandbox.pull`. Call it under a lease. Raises as that, and OSError.

        When the engine's disk is full, the older half of the images is dropped, so a retry may succeed. For
        the same image that happens at most once in `ONCE_IN` seconds.
        """
        with self._changed:
            if self._records.note_use(reference):
                self._arriving.add(reference)
        try:
            progress = self._sandbox.pull(reference, token=token, timeout=timeout)
        except NoSpace:
            self._free_space(reference)
            raise
        if progress is None and reference in self._arriving:
            self._arriving.discard(reference)
            self._grown = True
        return progress

    def _free_space(self, reference: str) -> None:
        now = time.monotonic()
        with self._changed:
            if now < self._freed_for.get(reference, -ONCE_IN) + ONCE_IN:
                return
            self._freed_for = {key: at for key, at in self._freed_for.items() if now < at + ONCE_IN}
            self._freed_for[reference] = now
        try:
            self._drop_oldest(until=lambda used: used // 2)
        except SandboxError as error:
            logger.warning("No image was dropped: %s", error)

    def due(self) -> bool:
        """Whether to call `trim` now. A caller that gets True must call it."""
        now = time.monotonic()
        if not self._limit or not (self._grown or now > self._looked + TRIM):
            return False
        self._grown, self._looked = False, now
        return True

    def trim(self) -> list[str]:
        """Drop the least recently used images that are not in use until the limit holds; return their
        references.

        Raises SandboxError, OSError.
        """
        return self._drop_oldest(until=lambda _: self._limit) if self._limit else []

    def _drop_oldest(self, *, until: Callable[[int], int]) -> list[str]:
        """Drop images until `until(used)` bytes are left, where `used` is what all take. Does nothing while
        another thread drops."""
        if not self._trimming.acquire(blocking=False):
            return []
        try:
            return list(self._dropped(self._kept(), until=until))
        finally:
            self._trimming.release()

    def _dropped(self, kept: dict[str, Mapping[str, int]], *, until: Callable[[int], int]) -> Iterator[str]:
        target = until(_size(kept.values()))
        for reference in list(kept):
            if _size(kept.values()) <= target:
                return
            if self._drop(reference):
                logger.info("%s: dropped, because it was the least recently used", reference)
                del kept[reference]
                yield reference

    def _kept(self) -> dict[str, Mapping[str, int]]:
        """The layers of each present image, the least recently used first. Forgets the others."""
        kept = {}
        for reference in self._records.references():
            layers = self._sandbox.layers(reference)
            if layers is not None:
                kept[reference] = layers
            else:
                self._drop(reference)
        return kept

    def _drop(self, reference: str) -> bool:
        """Drop an image unless it is in use. Returns whether it is gone."""
        with self._changed:
            if self._leases[reference]:
                return False
            self._going.add(reference)
        try:
            gone = self._sandbox.drop(reference)
            if gone:
                self._records.forget(reference)
            return gone
        finally:
            with self._changed:
                self._going.remove(reference)
                self._changed.notify_all()


def _size(images: Iterable[Mapping[str, int]]) -> int:
    """The size of these images in bytes, counting each layer once."""
    layers: dict[str, int] = {}
    for image in images:
        layers |= image
    return sum(layers.values())
