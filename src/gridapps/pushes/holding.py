"""Keeps what a push relies on from the sweep, which removes only what was not touched for a day."""

import json
import re
from itertools import islice

from gridapps.oci import manifests
from gridapps.pushes import disk
from gridapps.pushes.permits import DIGEST
from gridapps.registry.models import App

MAX_NAMED = 1000  # digests; a manifest that is taken names fewer


def hold(app: App, content: bytes) -> None:
    """Touch a manifest that is being pushed, and all that it names, before anybody relies on it."""
    named = islice(digests_in(parsed(content)), MAX_NAMED)
    disk.developers().touch(app.app_id, manifests.digest_of(content), *named)


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
