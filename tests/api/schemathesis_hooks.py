"""What Schemathesis cannot know: an `after` is given out by the list, and some calls wait when asked to."""

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Take out marks that were made up, unless a fault is what is asked for, and what makes a call wait."""
    query = case.query or {}
    for name in ("follow", "wait"):
        if str(query.get(name, "")).lstrip("0").isdigit():
            del query[name]
    if case.meta is not None and case.meta.generation.mode.is_positive:
        query.pop("after", None)
