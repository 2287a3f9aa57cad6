"""Whether the blobs that a manifest names were pushed, each with its declared size."""

from collections.abc import Mapping

from gridapps.oci import manifests
from gridapps.oci.attachments import AttachmentManifest
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.documents import Invalid
from gridapps.oci.manifests import Blob, ImageManifest
from gridapps.pushes.registry_client import NotInRegistry, Repository


def require_image(manifest: ImageManifest, repository: Repository) -> None:
    """Raise Invalid unless the configuration and the layers are there. Also raises Unavailable.

    The sum of the declared sizes was judged with the manifest.
    """
    layers = {f"Layer {number}": blob for number, blob in enumerate(manifest.layers, 1)}
    _require({"The image configuration": manifest.config, **layers}, repository)


def require_documents(manifest: AttachmentManifest | AttestationManifest, repository: Repository) -> None:
    """Raise Invalid unless the configuration and the documents are there. Also raises Unavailable."""
    documents = {f"Document {number}": piece.blob for number, piece in enumerate(manifest.pieces, 1)}
    _require({"The configuration": manifest.config, **documents}, repository)


def configuration_of(
    manifest: ImageManifest, repository: Repository, *, limit: int = manifests.MAX_CONFIG + 1
) -> bytes:
    """The first `limit` bytes of an image's configuration, unjudged. Raises Invalid, Unavailable."""
    try:
        return repository.blob(manifest.config.digest, limit=limit)
    except NotInRegistry:
        raise Invalid("The image configuration was not pushed.") from None


def _require(blobs: Mapping[str, Blob], repository: Repository) -> None:
    """Raise Invalid unless each blob is there and has its declared size. The keys say what each is."""
    for what, blob in blobs.items():
        try:
            size = repository.blob_size(blob.digest)
        except NotInRegistry:
            raise Invalid(f"{what} ({blob.digest}) was not pushed.") from None
        if size != blob.size:
            raise Invalid(f"{what} has {size} bytes; the manifest says {blob.size} bytes.")
