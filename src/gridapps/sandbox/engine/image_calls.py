"""The engine's images: description, size by layer, removal."""

import secrets
from collections.abc import Mapping
from urllib.parse import quote

from gridapps.sandbox.engine.calls import Engine
from gridapps.sandbox.engine.layers import layer_sizes, with_compressed
from gridapps.sandbox.engine.responses import Image, Step

_EMPTY_TAR = bytes(1024)  # the two zero blocks that end an archive


def describe(engine: Engine, reference: str) -> Image | None:
    """The image, or None when the node does not have it."""
    response = engine.call("GET", f"{_path(reference)}/json")
    if response.status == 404:
        return None
    if response.failed:
        raise engine.failure("describe the image", response)
    return response.decoded(Image)


def layers(engine: Engine, reference: str) -> Mapping[str, int] | None:
    """Bytes of each layer, or None when the node does not have the image."""
    image = describe(engine, reference)
    if image is None:
        return None
    response = engine.call("GET", f"{_path(reference)}/history")
    if response.failed and response.status != 404:
        raise engine.failure("describe the image", response)
    steps = [] if response.failed else response.decoded(list[Step] | None) or []  # type: ignore[arg-type]
    sizes = [step.size for step in steps]
    if not engine.info().containerd_store:
        return layer_sizes(image.root_fs.layers or [], size=image.size, steps=sizes)
    # This store also keeps the compressed layers, and calls their size that of the image. It may not know
    # the layers of an image (moby issue 49784).
    known = image.root_fs.layers or [image.id]
    return with_compressed(layer_sizes(known, size=sum(sizes), steps=sizes), compressed=image.size)


def import_empty(engine: Engine) -> str:
    """Make an image without files; its reference. Raises SandboxError if the engine cannot unpack a layer."""
    repository = f"gridapps-check-{secrets.token_hex(6)}"
    response = engine.call(
        "POST",
        "/images/create",
        seconds=engine.act,
        query={"fromSrc": "-", "repo": repository, "tag": "1", "platform": "linux/amd64"},
        body=_EMPTY_TAR,
        headers={"Content-Type": "application/tar"},
    )
    if response.failed:
        raise engine.failure("import an empty image", response)
    return f"{repository}:1"


def drop(engine: Engine, reference: str) -> bool:
    """Remove the reference, and the image if that was its last one. False when a container uses the image."""
    image = describe(engine, reference)
    if image is None:
        return True
    # The engine checks this itself only for the last reference of an image.
    if any(user.image_id == image.id for user in engine.containers(ancestor=image.id)):
        return False
    # Without `noprune` the engine also removes untagged images that this one was built on.
    response = engine.call("DELETE", _path(reference), seconds=engine.act, query={"noprune": "1"})
    if response.failed and response.status not in {404, 409}:
        raise engine.failure("remove the image", response)
    return response.status != 409


def _path(reference: str) -> str:
    return f"/images/{quote(reference, safe='/:@')}"
