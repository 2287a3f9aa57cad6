"""Which digests a stored manifest names."""

import json
import re

from gridapps.pushes.permits import DIGEST


def parsed(content: bytes) -> object:
    """A document as JSON; None when it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def digests_in(document: object) -> set[str]:
    """Every digest that stands anywhere in a document: more than it needs, never less."""
    found, todo = set(), [document]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, str) and re.fullmatch(DIGEST, value):
            found.add(value)
    return found
