"""Shapes of hooks: GRiD v3's Hook, and its deliveries."""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from gridapps.api.native.answers import Shape
from gridapps.api.native.shapes import Text, Time
from gridapps.hooks.events import EVENTS
from gridapps.hooks.targets import LONGEST, TARGET


def _described(pattern: str, longest: int, description: str) -> Any:
    # The operations validate them, with better messages than that a pattern does not match.
    return WithJsonSchema(
        {"type": "string", "pattern": pattern, "maxLength": longest, "description": description}
    )


Target = Annotated[Text, _described(TARGET, LONGEST, "https URL that events are POSTed to")]
Events = Annotated[Text, _described(EVENTS, 100, "an event, or several separated by commas")]


class Hook(Shape):
    """`event`: one, or several separated by commas. `run`: the only run that it is for."""

    pk: str
    version: Literal["3"]
    user: str
    aoi: None
    created_at: Time
    target: str
    event: str
    active: bool
    run: str | None


class HooksAnswer(Shape):
    hooks: list[Hook]
    next: str = ""


class HookSecretAnswer(Shape):
    """`secret` is the key of the signatures; it is shown only now."""

    hooks: list[Hook]
    secret: str


class NewHook(Shape):
    event: Events
    target: Target


class HookChanges(Shape):
    """Absent fields do not change."""

    event: Events = ""
    target: Target = ""
    active: Annotated[bool, Field(strict=True)] = True


class Delivery(Shape):
    """`due_at`: the next try. `status` and `error`: the result of the last one."""

    id: str
    event: str
    state: Literal["waiting", "delivered", "failed"]
    tries: int
    created_at: Time
    due_at: Time | None
    tried_at: Time | None
    settled_at: Time | None
    status: int | None
    error: str | None


class DeliveriesAnswer(Shape):
    deliveries: list[Delivery]
    next: str = ""
