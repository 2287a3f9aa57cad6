"""What a token may be used for: the OAuth scopes, what each covers, and which an application may ask for."""

from collections.abc import Iterable
from typing import Any

from oauth2_provider.scopes import BaseScopes

from gridapps.access.models import ApplicationScopes

ADMIN = "admin"
API = "api"
# The sentences stand on the page where users allow an application to act for them.
SCOPES = {
    API: "Do everything as you, except administer the instance",
    "apps:read": "See your Apps and their releases",
    "apps:write": "Create, change and delete your Apps",
    "runs:read": "See your runs with their logs and outputs",
    "runs:write": "Submit, cancel and retry runs as you",
    "exports": "See your exports",
    ADMIN: "Administer the instance, if you are an administrator",
}
DEFAULT = (API,)


def covered_by(granted: Iterable[str]) -> set[str]:
    """Every scope that these scopes cover: `api` covers all but `admin`. Unknown ones cover nothing."""
    known = set(granted) & SCOPES.keys()
    return known | (SCOPES.keys() - {ADMIN} if API in known else set())


class OfApplication(BaseScopes):  # type: ignore[misc]
    """Gives an application no more than what was chosen when it was registered."""

    def get_all_scopes(self) -> dict[str, str]:
        """Every scope with its sentence."""
        return SCOPES

    def get_available_scopes(self, application: Any = None, *_: Any, **__: Any) -> list[str]:
        """What the application may ask for."""
        return sorted(covered_by(_chosen(application)))

    def get_default_scopes(self, application: Any = None, *_: Any, **__: Any) -> list[str]:
        """What it gets when it names nothing: what was chosen, but never `admin` unasked."""
        return [scope for scope in _chosen(application) if scope != ADMIN]


def _chosen(application: Any) -> list[str]:
    if application is None:
        return list(DEFAULT)
    row = ApplicationScopes.objects.filter(application=application.pk).first()
    return list(row.scopes) if row else list(DEFAULT)
