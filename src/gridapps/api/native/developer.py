"""`/developer`: asking to be a developer."""

from django.http import HttpRequest
from ninja import Router, Status

from gridapps.access import models, operations, queries
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of
from gridapps.api.native.shapes import Developer, DeveloperAnswer, DeveloperRequest

router = Router(tags=["developer"])


@router.get("/developer", response=reads(ok=DeveloperAnswer), operation_id="show_developer")
def show(request: HttpRequest) -> DeveloperAnswer:
    """How far one's request to be a developer is."""
    return _answer(queries.developer_of(user_of(request)))


@router.post(
    "/developer",
    response=writes(body=True, status_200=DeveloperAnswer, status_201=DeveloperAnswer),
    operation_id="request_developer",
)
def ask(request: HttpRequest, body: DeveloperRequest) -> Status[DeveloperAnswer]:
    """Ask to be a developer; an administrator decides. 200 when one has asked before."""
    developer, new = operations.request_developer(user=user_of(request), statement=body.statement)
    return Status(201 if new else 200, _answer(developer))


def _answer(developer: models.Developer | None) -> DeveloperAnswer:
    if developer is None:
        return DeveloperAnswer(
            developer=Developer(state="none", statement="", requested_at=None, decided_at=None)
        )
    return DeveloperAnswer(
        developer=Developer(
            state=developer.state,
            statement=developer.statement,
            requested_at=developer.requested_at,
            decided_at=developer.decided_at,
        )
    )
