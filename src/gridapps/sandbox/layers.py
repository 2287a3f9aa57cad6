"""What an image takes on a node, layer by layer, as the engine tells it: images share layers."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


def layers_of(image: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of each layer. The keys stand for a layer and all below it: an engine shares no others.

    The engine tells sizes by the steps of the build, the newest first; steps that made no layer have none. A
    layer without bytes looks like such a step, so sizes are counted from the top: then what is shared is
    rather taken for an image's own than the other way round.
    """
    keys: list[str] = []
    for layer in image["RootFS"].get("Layers") or ():
        below = keys[-1] if keys else ""
        keys.append(hashlib.sha256(f"{below} {layer}".encode()).hexdigest())
    found = dict.fromkeys(keys, 0)
    sizes = [step["Size"] for step in history if step["Size"]]
    found |= dict(zip(reversed(keys), sizes, strict=False))
    if keys:  # an image need not tell its history
        found[keys[-1]] += max(image["Size"] - sum(found.values()), 0)
    return found
