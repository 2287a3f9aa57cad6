"""The disk space that an image takes on a node, layer by layer: images share layers."""

import hashlib
from collections.abc import Mapping, Sequence


def layer_sizes(layers: Sequence[str], *, size: int, steps: Sequence[int]) -> dict[str, int]:
    """Bytes of each layer of an image of `size` bytes; each key stands for a layer and all layers below it,
    since an engine shares a layer only together with those.

    `steps` has the sizes of the build's steps, newest first, with 0 for a step that made no layer. An empty
    layer looks like such a step, so sizes are assigned from the top: a shared layer may then count as the
    image's own, but not the other way round.
    """
    keys: list[str] = []
    for layer in layers:
        below = keys[-1] if keys else ""
        keys.append(hashlib.sha256(f"{below} {layer}".encode()).hexdigest())
    found = dict.fromkeys(keys, 0)
    found |= dict(zip(reversed(keys), filter(None, steps), strict=False))
    if keys:  # an image may lack its history
        found[keys[-1]] += max(size - sum(found.values()), 0)
    return found


def with_compressed(sizes: Mapping[str, int], *, compressed: int) -> dict[str, int]:
    """The sizes of layers including their compressed copies, which take `compressed` bytes together. That is
    divided in proportion to the sizes, so that images that share a layer count its copy once, roughly."""
    whole = sum(sizes.values())
    if not whole:
        return dict(sizes) | dict.fromkeys(list(sizes)[-1:], compressed)
    return {key: size + compressed * size // whole for key, size in sizes.items()}
