"""App-ids that cannot be chosen, because URLs use these words.

An app-id is the name of a repository (`/v2/APP-ID/...`, and `/v2/grid/APP-ID/...` for shared releases) and
part of URLs of pages and the API. Apps that already have such an id keep it: nginx and the permits
distinguish them (docs/decisions/0092-reserved-app-ids.md).
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
    """A sentence that says why the app-id cannot be chosen; empty if it can."""
    if app_id in _REGISTRY:
        return "The addresses of the registry use this word; choose another one."
    if app_id in _ADDRESSES:
        return "The addresses of this instance use this word; choose another one."
    if app_id in _PAGES:
        return "Pages use this word, or programs take it for none; choose another one."
    return ""
