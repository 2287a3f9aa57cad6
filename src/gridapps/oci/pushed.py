"""Decodes a pushed document and identifies it: an image, an index or an attachment. No other module does."""

from gridapps.oci import attachments, attestations, indexes, manifests
from gridapps.oci.attachments import AttachmentManifest, ReferrersList
from gridapps.oci.attestations import AttestationManifest
from gridapps.oci.documents import Invalid
from gridapps.oci.indexes import ImageIndex
from gridapps.oci.manifests import INDEXES, MANIFESTS, NO_LIMIT, ImageManifest, Received

Part = ImageManifest | ImageIndex | AttestationManifest  # what an index can name
Pushed = Part | AttachmentManifest | ReferrersList


class InvalidAttachment(Invalid):
    """What was pushed as an attachment is refused. `subject` is the digest that it is about, if known."""

    def __init__(self, *reasons: str, subject: str = "") -> None:
        super().__init__(*reasons)
        self.subject = subject


def identify(
    content: bytes,
    *,
    media_type: str,
    reference: str,
    max_image: int = NO_LIMIT,
    max_layers: int = NO_LIMIT,
) -> Pushed:
    """Decode and check a manifest or index that was pushed under a tag or digest, without what it names.

    `media_type` is the Content-Type. The limits are bytes of the compressed image and a number of layers.
    Raises InvalidAttachment for what is, or claims to be, an attachment, and Invalid for everything else.
    """
    received = manifests.decoded(content, media_type=media_type)
    if not attachments.is_reserved(reference) and attestations.is_attestation(received):
        _require_digest(content, reference)
        return attestations.parse_attestation(received)
    try:
        target = attachments.target_of(received, reference)
        if target is not None:
            _require_digest(content, reference)
    except Invalid as error:
        raise InvalidAttachment(*error.reasons) from None
    if target is not None:
        try:
            return attachments.parse_attachment(received, target)
        except Invalid as error:
            raise InvalidAttachment(*error.reasons, subject=target.subject) from None
    image = _image(received, max_image=max_image, max_layers=max_layers)
    _require_digest(content, reference)
    return image


def decode_image(
    content: bytes, *, media_type: str, max_image: int = NO_LIMIT, max_layers: int = NO_LIMIT
) -> ImageManifest | ImageIndex:
    """Decode the manifest or index of an image that is in a registry already. Raises Invalid."""
    received = manifests.decoded(content, media_type=media_type)
    return _image(received, max_image=max_image, max_layers=max_layers)


def decode_part(
    content: bytes, *, media_type: str, max_image: int = NO_LIMIT, max_layers: int = NO_LIMIT
) -> Part:
    """Decode what an index names and a registry has already. Raises Invalid."""
    received = manifests.decoded(content, media_type=media_type)
    if attestations.is_attestation(received):
        return attestations.parse_attestation(received)
    return _image(received, max_image=max_image, max_layers=max_layers)


def _image(received: Received, *, max_image: int, max_layers: int) -> ImageManifest | ImageIndex:
    if received.media_type in INDEXES:
        return indexes.parse_index(received)
    if received.media_type in MANIFESTS:
        return manifests.parse_manifest(received, max_image=max_image, max_layers=max_layers)
    raise Invalid(
        f"The media type {received.media_type[:200]!r} is not supported: push a Docker schema 2 or OCI image."
    )


def _require_digest(content: bytes, reference: str) -> None:
    if ":" in reference and reference != manifests.digest_of(content):
        raise Invalid("The manifest's digest differs from the one in the request.")
