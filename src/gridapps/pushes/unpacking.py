"""Judging, at the push, what an image would take on a node's disk. Each new layer is read to its end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.conf import settings

from gridapps.access.models import User
from gridapps.oci import hidden_files, trees
from gridapps.oci.configurations import ImageProgram
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_tree import TooLarge
from gridapps.oci.manifests import Blob, ImageManifest
from gridapps.pushes import reading
from gridapps.pushes.registry_client import NotInRegistry, Repository
from gridapps.registry.models import Layer


def judge_layers(
    manifest: ImageManifest, program: ImageProgram, repository: Repository, *, by: User
) -> list[str]:
    """Remarks about files of the image that programs do not see.

    Raise Invalid unless the layers are sound, match the configuration, fit into the limits, and together
    make a tree that engines can read.

    Raises Unavailable when no reading slot becomes free for the developer in time.
    """
    limits = settings.GRIDAPPS
    size, files = limits.max_unpacked, limits.max_image_files
    indexes = []
    with ExitStack() as opened:
        readers: list[reading.LayerReader] = []

        def reader() -> reading.LayerReader:
            """The reader of this push, started for its first new layer."""
            if not readers:
                opened.enter_context(reading.slot(by))
                readers.append(opened.enter_context(reading.LayerReader()))
            return readers[0]

        for number, (blob, diff_id) in enumerate(zip(manifest.layers, program.diff_ids, strict=True), 1):
            try:
                layer = _known(blob) or _read(blob, repository, reader, max_size=size, max_files=files)
            except TooLarge:
                raise Invalid(_too_large()) from None
            except Invalid as why:
                raise Invalid(f"Layer {number} ({blob.digest}) {why}") from None
            if layer.diff_id != diff_id:
                raise Invalid(
                    f"Layer {number} ({blob.digest}) unpacks to content that the image configuration "
                    "does not name."
                )
            size, files = size - layer.size, files - layer.files
            if size < 0 or files < 0:
                raise Invalid(_too_large())
            indexes.append(bytes(layer.index or b""))
    trees.judge_indexes(indexes)
    return hidden_files.remarks_on(indexes)


def _too_large() -> str:
    limits = settings.GRIDAPPS
    return (
        f"The image is too large when unpacked: this instance allows {limits.max_unpacked} bytes "
        f"in {limits.max_image_files} files."
    )


def _known(blob: Blob) -> Layer | None:
    """What the layer unpacks to, if it was read before. Older rows have no index and are read again."""
    return Layer.objects.filter(digest=blob.digest, index__isnull=False).first()


def _read(
    blob: Blob,
    repository: Repository,
    reader: Callable[[], reading.LayerReader],
    *,
    max_size: int,
    max_files: int,
) -> Layer:
    reading_now = reader()
    if (known := _known(blob)) is not None:  # another push read it while this one waited
        return known
    with _pieces(blob, repository) as pieces:
        found = reading_now.examine(pieces, max_size=max_size, max_files=max_files)
    facts = {"diff_id": found.diff_id, "size": found.size, "files": found.files, "index": found.index}
    return Layer.objects.update_or_create(digest=blob.digest, defaults=facts)[0]


@contextmanager
def _pieces(blob: Blob, repository: Repository) -> Iterator[Iterator[bytes]]:
    try:
        with repository.reading(blob.digest) as pieces:
            yield pieces
    except NotInRegistry:
        raise Invalid("was not pushed.") from None
