"""The environment variables of each part: those it uses, and no secret that it does not need."""

import os
from collections.abc import Mapping

from gridapps.config.environment import Environment
from gridapps.server.accounts import Account

# Variables of the operator for every program: paths, language, time zone, trusted authorities.
_COMMON = frozenset({
    "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
})  # fmt: skip
_COMMON_PREFIXES = ("LC_", "PYTHON", "COVERAGE_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")
_ALL = ("application", "courier", "promoter", "scanner", "housekeeper", "importer", "worker")
# Settings that hold a secret, and the parts that receive it. Every part receives all other settings.
SECRETS: Mapping[str, frozenset[str]] = {
    "GRIDAPPS_DATABASE": frozenset(
        {"application", "courier", "promoter", "housekeeper", "importer", "worker"}
    ),
    "GRIDAPPS_BROKER": frozenset({"application", "worker"}),
    "GRIDAPPS_METRICS_TOKEN": frozenset({"application"}),
    "AWS_": frozenset({"application", "importer", "worker"}),  # for S3 storage
}


def environment_of_part(name: str, settings: Environment, *, account: Account | None) -> dict[str, str]:
    """The environment of a part that is a command of this program. Accounts have no home directory."""
    known = {f"GRIDAPPS_{field.upper()}" for field in Environment.model_fields}
    found = {
        key: value
        for key, value in os.environ.items()
        if key in _COMMON
        or key.startswith(_COMMON_PREFIXES)
        or (key.lower() in _PROXIES and name in SECRETS["AWS_"])
        or ((key in known or key.startswith("AWS_")) and name in _parts_with(key))
    }
    home = "/nonexistent" if account else os.environ.get("HOME", "/")
    data = str(settings.data.absolute())
    return {**found, "GRIDAPPS_DATA": data, "PYTHONUNBUFFERED": "1", "HOME": home}


def environment_of_supervisor(settings: Environment) -> dict[str, str]:
    """The environment of the supervisor: what every part may know."""
    return {
        **environment_of_part("courier", settings, account=None),
        "DJANGO_SETTINGS_MODULE": "gridapps.config.settings",
    }


def _parts_with(key: str) -> frozenset[str]:
    """The parts that receive a setting or a variable of a family."""
    family = "AWS_" if key.startswith("AWS_") else key
    return SECRETS.get(family, frozenset(_ALL))
