"""App-ids that cannot be chosen, because addresses use these words.

An app-id is the name of a repository, `/v2/APP-ID/...` and for what is shared `/v2/grid/APP-ID/...`, and a
part of the addresses of pages and API. Apps that have such an id already keep it: nginx and the permits tell
them apart (docs/decisions/0092-reserved-app-ids.md).
"""

_REGISTRY = (
    "grid",
    "v2",
    "v1",
    "manifests",
    "blobs",
    "tags",
    "list",
    "uploads",
    "referrers",
    "token",
    "catalog",
)
_ADDRESSES = (
    "admin", "api", "apps", "assets", "authorize", "internal", "login", "logout", "metrics", "oauth",
    "outputs", "registry", "releases", "runs", "settings", "shares", "static", "trusted", "v3",
)  # fmt: skip
_PAGES = ("create", "delete", "edit", "index", "new", "none", "null", "search", "self", "undefined")


def reason(app_id: str) -> str:
    """Why the app-id cannot be chosen, as a sentence; empty for one that can be."""
    if app_id in _REGISTRY:
        return "The addresses of the registry use this word; choose another one."
    if app_id in _ADDRESSES:
        return "The addresses of this instance use this word; choose another one."
    if app_id in _PAGES:
        return "Pages use this word, or programs take it for none; choose another one."
    return ""
