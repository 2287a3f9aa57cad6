"""Writes: create, update and delete Apps."""

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.access.names import is_line
from gridapps.arguments import checking
from gridapps.audit import record
from gridapps.registry import queries, reserved
from gridapps.registry.errors import AppChanged, AppIdTaken, AppNotFound, InvalidApp
from gridapps.registry.models import APP_ID, App
from gridapps.sandbox.resources import faults as bounds

DEFAULTS: Mapping[str, float] = {"cpus": 1, "memory": 1024**3, "disk": 1024**3, "time": 3600}
MAX_TITLE = 200
MAX_DESCRIPTION = 20_000


def create_app(
    *,
    by: User,
    app_id: str,
    title: str,
    description: str = "",
    arguments: object = None,
    resources: Mapping[str, float] | None = None,
) -> App:
    """Create an App of a verified developer.

    `arguments` is a JSON Schema (default: any object). `resources` are cpus, memory and disk in bytes, and
    time in seconds; each has a default. Raises NotADeveloper, InvalidApp, InvalidSchema, AppIdTaken, Busy.
    """
    permissions.require_developer(by)
    if not re.fullmatch(APP_ID, app_id):
        sentence = "1 to 63 of a-z, 0-9 and -, neither beginning nor ending with -."
        raise InvalidApp(f"{app_id!r} is not a valid app-id.", [("/id", sentence)])
    if sentence := reserved.reason(app_id):
        raise InvalidApp(f"{app_id!r} is not a valid app-id.", [("/id", sentence)])
    limits = settings.GRIDAPPS.limits()
    wanted = {name: min(value, limits[name]) for name, value in DEFAULTS.items()} | dict(resources or {})
    app = App(owner=by, app_id=app_id)
    schema = {"type": "object"} if arguments is None else arguments
    schema = checking.check_schema(schema, by=by.pk)
    _change(app, title=title, description=description, arguments=schema, resources=wanted)
    try:
        with transaction.atomic():
            app.save(force_insert=True)
            record.app_created(by=by, app=app_id)
    except IntegrityError:
        raise AppIdTaken(
            f"The app-id {app_id!r} is taken, perhaps by a deleted App; choose another one."
        ) from None
    return app


def update_app(*, by: User, app_id: str, expected: str | None = None, changes: Mapping[str, Any]) -> App:
    """Change title, description, arguments or resources of the user's own App.

    `expected` is the `version` that the caller last read. A changed schema applies to new runs only. Raises
    AppNotFound, AppChanged, InvalidApp, InvalidSchema, Busy.
    """
    if "arguments" in changes:
        if not queries.owned_by(by).filter(app_id=app_id).exists():
            raise _not_found(app_id)
        # Before the transaction, which would block other writers during the check.
        changes = {**changes, "arguments": checking.check_schema(changes["arguments"], by=by.pk)}
    with transaction.atomic():
        app = _own(by, app_id)
        if expected is not None and expected != version(app):
            raise AppChanged("The App was changed by another request; get it again, then change it.")
        _change(app, **changes)
        app.save()
        record.app_changed(by=by, app=app_id, changed=sorted(changes))
    return app


def delete_app(*, by: User, app_id: str) -> None:
    """Delete the user's own App. Its app-id is never reused. Runs that are already queued still run.

    Raises AppNotFound.
    """
    with transaction.atomic():
        app = _own(by, app_id)
        app.deleted_at = timezone.now()
        app.save(update_fields=["deleted_at"])
        record.app_deleted(by=by, app=app_id)


def version(app: App) -> str:
    """A short text that differs after every change of the App."""
    return app.updated_at.astimezone(UTC).strftime("%Y%m%d%H%M%S%f")


def _own(by: User, app_id: str) -> App:
    app = queries.owned_by(by).select_for_update(of=("self",)).filter(app_id=app_id).first()
    if app is None:
        raise _not_found(app_id)
    return app


def _not_found(app_id: str) -> AppNotFound:
    return AppNotFound(f"You have no App {app_id!r}.")


def _change(app: App, **changes: Any) -> None:
    """Check and set the given attributes. The caller has checked the schema of the arguments."""
    if "title" in changes:
        app.title = _line("/title", changes["title"], MAX_TITLE)
    if "description" in changes:
        app.description = changes["description"]
        if len(app.description) > MAX_DESCRIPTION:
            raise InvalidApp(
                "The description is too long.", [("/description", f"At most {MAX_DESCRIPTION} characters.")]
            )
    if "arguments" in changes:
        app.arguments = changes["arguments"]
    if "resources" in changes:
        _request(app, changes["resources"])


def _line(pointer: str, text: str, limit: int) -> str:
    text = text.strip()
    if not is_line(text, longest=limit):
        raise InvalidApp("The title is invalid.", [(pointer, f"One line of 1 to {limit} characters.")])
    return text


def _request(app: App, resources: Mapping[str, float]) -> None:
    faults = [
        (f"/resources/{name}", text) for name, text in bounds(resources, most=settings.GRIDAPPS.limits())
    ]
    if faults:
        raise InvalidApp("The App requests resources that this instance does not provide.", faults)
    for name, value in resources.items():
        setattr(app, name, value if name == "cpus" else int(value))
