"""Permissions are asked in `access`, and every refusal has a code."""

import importlib
import pkgutil
import re
from pathlib import Path

import gridapps
from gridapps.access.refusals import Refused
from gridapps.api.errors import CODES, ApiError

SOURCE = Path(gridapps.__file__).parent
REGISTRY_CODES = {"denied", "manifest-invalid"}  # of the OCI distribution specification, in lower case


def test_nothing_else_asks_who_is_an_administrator_or_an_owner() -> None:
    """Except the form that grants rights, and the classes of users in the metrics."""
    allowed = {"web/administration/users.py", "runs/overview.py"}
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*")
        if path.suffix in {".py", ".html"} and not {"access", "migrations"} & set(path.parts)
        if re.search(r"is_superuser|is_staff|\.owner(_id)? [!=]=|\.user(_id)? [!=]=", path.read_text())
    }
    assert found == allowed


def _refusals(base: type[Refused]) -> list[type[Refused]]:
    return [kind for each in base.__subclasses__() for kind in (each, *_refusals(each))]


def test_every_refusal_has_a_code_of_its_own() -> None:
    for module in pkgutil.walk_packages(gridapps.__path__, "gridapps."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = [kind for kind in _refusals(Refused) if kind is not ApiError]
    assert len(kinds) > 20
    assert [kind for kind in kinds if vars(kind).get("code") not in {*CODES, *REGISTRY_CODES}] == []
