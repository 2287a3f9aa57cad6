"""The digests that stored manifests name. Reading is lenient: what was stored once has to stay usable."""

import json
import re

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parsed(content: bytes) -> object:
    """A document as JSON, or None if it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def digests_in(document: object) -> set[str]:
    """All digests anywhere in a document: at least those that it needs."""
    found, todo = set(), [document]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, str) and DIGEST.fullmatch(value):
            found.add(value)
    return found
