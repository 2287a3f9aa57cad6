"""What each request to the registries needs, and whether a certificate allows it.

Repositories whose name begins with `grid/` belong to the trusted registry: nodes and administrators pull from
them, and developers do not reach them. Anything that is not listed here is denied. Source of the requests:
the OCI distribution specification 1.0.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from gridapps.access import permissions
from gridapps.access.refusals import Refused
from gridapps.pki.tokens import Registry
from gridapps.registry.models import App, Certificate, NodeCertificate

TRUSTED_PREFIX = "grid/"  # app-ids have no slash, so no developer's repository has such a name
Access = Mapping[str, Sequence[str]]  # actions by repository

PULL, PUSH = ("pull",), ("push", "pull")
MAX_SCOPES = 10
MAX_URI = 4096  # characters

TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
DIGEST = r"sha256:[0-9a-f]{64}"
# No `%`, no `..`, no double slash: the registry reads exactly the path that is judged here.
_PATHS = {
    "manifest": rf"manifests/(?P<reference>{TAG}|{DIGEST})",
    "blob": rf"blobs/(?P<digest>{DIGEST})",
    "uploads": r"blobs/uploads/",
    "upload": r"blobs/uploads/(?P<upload>[0-9a-zA-Z=_-]{1,128})",
    "tags": r"tags/list",
    "referrers": rf"referrers/{DIGEST}",
}
_NAME = rf"/v2/(?P<name>(?:{TRUSTED_PREFIX})?[a-z0-9][a-z0-9-]{{0,62}})/"
_ALLOWED: Mapping[tuple[str, str], Sequence[str]] = {
    ("GET", "manifest"): PULL,
    ("HEAD", "manifest"): PULL,
    ("PUT", "manifest"): (),  # the application judges and forwards it with its own token
    ("GET", "blob"): PULL,
    ("HEAD", "blob"): PULL,
    ("POST", "uploads"): PUSH,
    ("GET", "upload"): PUSH,
    ("HEAD", "upload"): PUSH,
    ("PATCH", "upload"): PUSH,
    ("PUT", "upload"): PUSH,
    ("DELETE", "upload"): ("delete",),  # cancels an upload
    ("GET", "tags"): PULL,
    # The registry has no such list and answers 404. Clients then keep one under a tag.
    ("GET", "referrers"): PULL,
}


class Denied(Refused):
    """The request or scope is not allowed. The message is shown in the developer's terminal."""

    code = "denied"


def access_for_request(*, method: str, uri: str) -> Access:
    """What a request to `/v2/<name>/...` needs. `uri` is raw, as in the request line. Raises Denied."""
    path, _, query = uri.partition("?")
    if len(uri) > MAX_URI:
        raise Denied(f"The request's URI is longer than {MAX_URI} characters.")
    for kind, pattern in _PATHS.items():
        if not (match := re.fullmatch(_NAME + pattern, path)):
            continue
        actions = _ALLOWED.get((method, kind))
        if actions is not None:
            sources = _mounted_from(query) if kind == "uploads" else []
            return {**dict.fromkeys(sources, PULL), match["name"]: actions}
        if method == "DELETE":
            raise Denied("Images cannot be deleted from the registry. Delete the App instead.")
    raise Denied(
        "This registry takes pushes to, and pulls from, HOST:PORT/APP-ID and nothing else: the repository's "
        "name must be an app-id."
    )


@dataclass(frozen=True)
class Subject:
    """What a request concerns."""

    repository: str
    digests: Sequence[str]  # of blobs and manifests that it gets, mounts or uploads
    upload: str = ""
    begins: bool = False  # whether it begins an upload


def subject_of(uri: str) -> Subject:
    """What a request that `access_for_request` accepted concerns."""
    path, _, query = uri.partition("?")
    for kind, pattern in _PATHS.items():
        if match := re.fullmatch(_NAME + pattern, path):
            named = [*match.groupdict().values(), *_fields(query, "digest"), *_fields(query, "mount")]
            return Subject(
                repository=match["name"],
                digests=[word for word in named if re.fullmatch(DIGEST, word)],
                upload=match["upload"] if kind == "upload" else "",
                begins=kind == "uploads",
            )
    raise AssertionError("access_for_request has accepted it")


def access_for_scopes(given: Sequence[str]) -> Access:
    """What the `scope` parameters of a token request need. Raises Denied."""
    words = " ".join(given).split()
    if len(words) > MAX_SCOPES:
        raise Denied(f"A token can have at most {MAX_SCOPES} scopes.")
    access: dict[str, Sequence[str]] = {}
    for word in words:
        kind, _, rest = word.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind != "repository" or not name:
            raise Denied(f"The scope {word[:200]!r} is not available here.")
        asked = {action for action in actions.split(",") if action}
        if not asked <= set(PUSH):
            raise Denied("Images can be pushed and pulled, but not deleted.")
        access[name] = sorted(asked | set(access.get(name, ())))
    return access


def require_allowed(access: Access, *, certificate: Certificate | NodeCertificate) -> list[App]:
    """The Apps of these repositories. Raises Denied unless the certificate's holder may do all of this.

    A developer may push to and pull from their own Apps; an App of somebody else and a missing one look the
    same. A node may pull from every App, even a deleted one, because accepted runs continue.
    """
    if isinstance(certificate, NodeCertificate):
        return _pulled_by(certificate, access)
    names = list(access)
    if names and _verifies_copies(certificate, access):
        return _existing(name.removeprefix(TRUSTED_PREFIX) for name in names)
    owned = App.objects.filter(owner=certificate.user_id, deleted_at__isnull=True)
    apps = {app.app_id: app for app in owned.filter(app_id__in=names)}
    for name in names:
        if name not in apps:
            raise Denied(
                f"{certificate.user.username} has no App {name[:100]!r}. A repository has the name of an App "
                "of yours: create the App first, or push to another name."
            )
    return [apps[name] for name in names]


def _verifies_copies(certificate: Certificate, access: Access) -> bool:
    """Whether an administrator pulls from the trusted registry, such as to verify a signature there."""
    pulls = all(name.startswith(TRUSTED_PREFIX) and list(need) == list(PULL) for name, need in access.items())
    return pulls and permissions.is_administrator(certificate.user)


def _pulled_by(certificate: NodeCertificate, access: Access) -> list[App]:
    if any(list(actions) != list(PULL) for actions in access.values()):
        raise Denied(
            f"The certificate of {certificate.holder} only allows pulls. Push with a developer's certificate."
        )
    return _existing(name.removeprefix(TRUSTED_PREFIX) for name in access)


def _existing(names: Iterable[str]) -> list[App]:
    """These Apps, including deleted ones. Raises Denied."""
    ids = list(names)
    apps = {app.app_id: app for app in App.objects.filter(app_id__in=ids)}
    for app_id in ids:
        if app_id not in apps:
            raise Denied(f"There is no App {app_id[:100]!r}.")
    return [apps[app_id] for app_id in ids]


def registry_of(access: Access) -> Registry:
    """The registry that the request concerns. Raises Denied if it concerns both."""
    trusted = {name.startswith(TRUSTED_PREFIX) for name in access}
    if len(trusted) > 1:
        raise Denied("Blobs cannot be mounted between the developer registry and the trusted registry.")
    return Registry.TRUSTED if trusted == {True} else Registry.DEVELOPER


def _mounted_from(query: str) -> list[str]:
    """Repositories from which the upload is to mount a blob."""
    return _fields(query, "from")


def _fields(query: str, name: str) -> list[str]:
    """All values of a field of the query. Raises Denied."""
    try:
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=8, errors="strict")
    except ValueError:
        raise Denied("The request's query cannot be read.") from None
    return [value for value in fields.get(name, []) if value]
