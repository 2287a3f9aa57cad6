"""`/runs/{id}/developer`: show a run to the developer of its App, or hide it again."""

from django.http import HttpRequest
from ninja import Router, Status

from gridapps.api.native.answers import writes
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import RunId
from gridapps.api.native.run_shapes import RunsAnswer
from gridapps.api.native.runs import only, whole
from gridapps.runs import operations

router = Router(tags=["runs"], auth=with_scope("runs:read", "runs:write"))


@router.put(
    "/runs/{run_id}/developer",
    response=writes(404, 409, body=False, status_200=RunsAnswer),
    operation_id="show_run_to_developer",
    exclude_unset=True,
)
def show(request: HttpRequest, run_id: RunId) -> RunsAnswer:
    """Show this run to the owner of the App until it is hidden: arguments, names of files, log and outputs.

    The owner of the App cannot change it, and does not learn whose it is.
    """
    user = user_of(request)
    run = operations.show_to_developer(by=user, run=only(user, run_id))
    return RunsAnswer(runs=whole(user, [run.pk]))


@router.delete(
    "/runs/{run_id}/developer",
    response=writes(404, body=False, status_204=None),
    operation_id="hide_run_from_developer",
)
def hide(request: HttpRequest, run_id: RunId) -> Status[None]:
    """Hide it again, at once."""
    user = user_of(request)
    operations.hide_from_developer(by=user, run=only(user, run_id))
    return Status(204, None)
