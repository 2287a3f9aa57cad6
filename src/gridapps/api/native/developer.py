"""`/developer`: the request to be a developer."""

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Status

from gridapps.access import models, operations, queries
from gridapps.access.models import User
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of
from gridapps.api.native.shapes import Developer, DeveloperAnswer, DeveloperRequest
from gridapps.pushes import quota

router = Router(tags=["developer"])


@router.get("/developer", response=reads(ok=DeveloperAnswer), operation_id="show_developer")
def show(request: HttpRequest) -> DeveloperAnswer:
    """The state of your request to be a developer."""
    user = user_of(request)
    return _answer(user, queries.developer_of(user))


@router.post(
    "/developer",
    response=writes(body=True, status_200=DeveloperAnswer, status_201=DeveloperAnswer),
    operation_id="request_developer",
)
def ask(request: HttpRequest, body: DeveloperRequest) -> Status[DeveloperAnswer]:
    """Ask to be a developer; an administrator decides. 200 if you have asked before."""
    user = user_of(request)
    developer, new = operations.request_developer(user=user, statement=body.statement)
    return Status(201 if new else 200, _answer(user, developer))


def _answer(user: User, developer: models.Developer | None) -> DeveloperAnswer:
    return DeveloperAnswer(
        developer=Developer(
            state=developer.state if developer else "none",
            statement=developer.statement if developer else "",
            requested_at=developer.requested_at if developer else None,
            decided_at=developer.decided_at if developer else None,
            images_used=quota.used(user),
            images_limit=settings.GRIDAPPS.max_registry,
        )
    )
