"""`/hooks`: webhook subscriptions, and their deliveries."""

from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from gridapps.access.models import User
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of
from gridapps.api.native.declared import Pk, Pks
from gridapps.api.native.hook_shapes import (
    DeliveriesAnswer,
    Delivery,
    Hook,
    HookChanges,
    HooksAnswer,
    HookSecretAnswer,
    NewHook,
)
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.parsing import not_found, pks, primary_key
from gridapps.hooks import models, operations, queries

router = Router(tags=["hooks"])


@router.get("/hooks", response=reads(ok=HooksAnswer), operation_id="list_hooks", exclude_unset=True)
def index(request: HttpRequest, limit: Limit = 100, after: After = None) -> HooksAnswer:
    """Your hooks, including those of single runs."""
    found, following = page(request, queries.visible_to(user_of(request)), ("pk",), limit=limit, after=after)
    return HooksAnswer(hooks=[_shown(hook) for hook in found], **following)


@router.post(
    "/hooks",
    response=writes(409, body=True, status_201=HookSecretAnswer),
    operation_id="create_hook",
)
def create(request: HttpRequest, body: NewHook) -> Status[HookSecretAnswer]:
    """Subscribe a URL to events. The secret that signs them is shown only now."""
    hook = operations.create(by=user_of(request), target=body.target, events=body.event.split(","))
    return Status(201, HookSecretAnswer(hooks=[_shown(hook)], secret=hook.secret))


@router.get("/hooks/{pk}", response=reads(404, ok=HooksAnswer), operation_id="show_hooks", exclude_unset=True)
def show(request: HttpRequest, pk: Pks) -> HooksAnswer:
    """One hook, or several with their keys separated by commas."""
    wanted = pks(pk)
    found = queries.visible_to(user_of(request)).in_bulk(wanted)
    if len(found) < len(wanted):
        raise not_found()
    return HooksAnswer(hooks=[_shown(found[key]) for key in wanted])


@router.patch(
    "/hooks/{pk}",
    response=writes(404, body=True, status_200=HooksAnswer),
    operation_id="change_hook",
    exclude_unset=True,
)
def change(request: HttpRequest, pk: Pk, body: HookChanges) -> HooksAnswer:
    """Change a hook. Making it inactive drops its waiting deliveries."""
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "event" in changes:
        changes["events"] = changes.pop("event").split(",")
    return HooksAnswer(
        hooks=[_shown(operations.change(by=user_of(request), pk=primary_key(pk), changes=changes))]
    )


@router.delete("/hooks/{pk}", response=writes(404, body=False, status_204=None), operation_id="delete_hook")
def delete(request: HttpRequest, pk: Pk) -> Status[None]:
    """Delete a hook and its deliveries."""
    operations.delete(by=user_of(request), pk=primary_key(pk))
    return Status(204, None)


@router.post(
    "/hooks/{pk}/secret",
    response=writes(404, body=False, status_200=HookSecretAnswer),
    operation_id="renew_hook_secret",
)
def renew_secret(request: HttpRequest, pk: Pk) -> HookSecretAnswer:
    """Create a new secret, shown only now. It signs all events from now on."""
    hook = operations.renew_secret(by=user_of(request), pk=primary_key(pk))
    return HookSecretAnswer(hooks=[_shown(hook)], secret=hook.secret)


@router.post(
    "/hooks/{pk}/test",
    response=writes(404, 409, body=False, status_202=DeliveriesAnswer),
    operation_id="test_hook",
    exclude_unset=True,
)
def test(request: HttpRequest, pk: Pk) -> Status[DeliveriesAnswer]:
    """Deliver a test event, once. The deliveries show the result."""
    delivery = operations.test(by=user_of(request), pk=primary_key(pk))
    return Status(202, DeliveriesAnswer(deliveries=[_delivery(delivery)]))


@router.get(
    "/hooks/{pk}/deliveries",
    response=reads(404, ok=DeliveriesAnswer),
    operation_id="list_hook_deliveries",
    exclude_unset=True,
)
def deliveries(request: HttpRequest, pk: Pk, limit: Limit = 100, after: After = None) -> DeliveriesAnswer:
    """The deliveries of the last days and those that wait, newest first."""
    rows = queries.deliveries(_own(user_of(request), pk))
    found, following = page(request, rows, ("-pk",), limit=limit, after=after)
    return DeliveriesAnswer(deliveries=[_delivery(each) for each in found], **following)


def _own(user: User, key: str) -> models.Hook:
    found = queries.visible_to(user).filter(pk=primary_key(key)).first()
    if found is None:
        raise not_found()
    return found


def _shown(hook: models.Hook) -> Hook:
    return Hook(
        pk=str(hook.pk),
        version="3",
        user=hook.owner.username,
        aoi=None,
        created_at=hook.created_at,
        target=hook.target,
        event=",".join(hook.events),
        active=hook.active,
        run=str(hook.run) if hook.run else None,
    )


def _delivery(row: models.Delivery) -> Delivery:
    return Delivery(
        id=str(row.key),
        event=row.event,
        state=row.state,
        tries=row.tries,
        created_at=row.created_at,
        due_at=row.due_at if row.state == models.Delivery.State.WAITING else None,
        tried_at=row.tried_at,
        settled_at=row.settled_at,
        status=row.status,
        error=row.error or None,
    )
