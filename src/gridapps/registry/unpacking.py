"""What an image would take on a node's disk, judged at the push: each layer that is new is read through."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from gridapps.registry import layers
from gridapps.registry.distribution import Missing, Repository, Unavailable
from gridapps.registry.manifests import Blob, Invalid, Manifest, Program
from gridapps.registry.models import Layer

PATIENCE = 120.0  # seconds that a push waits for others to be read
_ONE_AT_A_TIME = threading.Lock()  # reading takes a whole processor: pages and API keep the others


def check(manifest: Manifest, program: Program, repository: Repository) -> None:
    """Raise Invalid unless the layers are sound, are what the configuration says, and fit into the limits.

    Raises Unavailable when too many other layers are being read.
    """
    limits = settings.GRIDAPPS
    size, files = limits.max_unpacked, limits.max_image_files
    for number, (blob, diff_id) in enumerate(zip(manifest.layers, program.diff_ids, strict=True), 1):
        try:
            layer = _known(blob, repository, max_size=size, max_files=files)
        except layers.TooLarge:
            raise Invalid(_too_large()) from None
        except Invalid as why:
            raise Invalid(f"Layer {number} ({blob.digest}) {why}") from None
        if layer.diff_id != diff_id:
            raise Invalid(f"Layer {number} ({blob.digest}) unpacks to something else than the image says.")
        size, files = size - layer.size, files - layer.files
        if size < 0 or files < 0:
            raise Invalid(_too_large())


def _too_large() -> str:
    limits = settings.GRIDAPPS
    return (
        f"The image is too large when unpacked: this instance takes {limits.max_unpacked} bytes "
        f"in {limits.max_image_files} files."
    )


def _known(blob: Blob, repository: Repository, *, max_size: int, max_files: int) -> Layer:
    """What the layer unpacks to: the same digest is read once only."""
    if (known := Layer.objects.filter(digest=blob.digest).first()) is not None:
        return known
    with _turn(), _pieces(blob, repository) as pieces:
        found = layers.examine(pieces, max_size=max_size, max_files=max_files)
    facts = {"diff_id": found.diff_id, "size": found.size, "files": found.files}
    return Layer.objects.get_or_create(digest=blob.digest, defaults=facts)[0]


@contextmanager
def _turn() -> Iterator[None]:
    if not _ONE_AT_A_TIME.acquire(timeout=PATIENCE):
        raise Unavailable("Other images are being read just now; push again in a moment.")
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


@contextmanager
def _pieces(blob: Blob, repository: Repository) -> Iterator[Iterator[bytes]]:
    try:
        with repository.reading(blob.digest) as pieces:
            yield pieces
    except Missing:
        raise Invalid("was not pushed.") from None
