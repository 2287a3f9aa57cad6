"""The OAuth scopes: what each covers, and which an application may ask for."""

from collections.abc import Iterable
from typing import Any

from oauth2_provider.scopes import BaseScopes

from gridapps.access.models import ApplicationScopes

ADMIN = "admin"
API = "api"
# Shown on the page where users authorise an application.
SCOPES = {
    API: "Do everything as you, except administer the instance",
    "apps:read": "See your Apps and their releases",
    "apps:write": "Create, change and delete your Apps",
    "runs:read": "See your runs with their logs and outputs",
    "runs:write": "Submit, cancel and retry runs as you",
    "exports": "See your exports",
    "exports:write": "Upload, rename and delete your exports",
    ADMIN: "Administer the instance, if you are an administrator",
}
DEFAULT = (API,)


def covered_by(granted: Iterable[str]) -> set[str]:
    """Every scope that these scopes cover: `api` covers all but `admin`. Unknown ones cover nothing."""
    known = set(granted) & SCOPES.keys()
    return known | (SCOPES.keys() - {ADMIN} if API in known else set())


class OfApplication(BaseScopes):  # type: ignore[misc]
    """Limits an application to the scopes chosen at its registration."""

    def get_all_scopes(self) -> dict[str, str]:
        """All scopes with their sentences."""
        return SCOPES

    def get_available_scopes(self, application: Any = None, *_: Any, **__: Any) -> list[str]:
        """The scopes that the application may ask for."""
        return sorted(covered_by(_chosen(application)))

    def get_default_scopes(self, application: Any = None, *_: Any, **__: Any) -> list[str]:
        """The scopes of a request that names none: those chosen at registration, except `admin`."""
        return [scope for scope in _chosen(application) if scope != ADMIN]


def _chosen(application: Any) -> list[str]:
    if application is None:
        return list(DEFAULT)
    row = ApplicationScopes.objects.filter(application=application.pk).first()
    return list(row.scopes) if row else list(DEFAULT)
