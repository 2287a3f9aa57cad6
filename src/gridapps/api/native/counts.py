"""`/apps/{app_id}/counts`: how often an App was run, for its owner and administrators."""

from dataclasses import asdict

from django.http import HttpRequest
from ninja import Router

from gridapps.api.native.answers import reads
from gridapps.api.native.apps import visible
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import AppId
from gridapps.api.native.shapes import AppCounts, AppCountsAnswer
from gridapps.registry import queries
from gridapps.runs import counts

router = Router(tags=["apps"], auth=with_scope("apps:read"))


@router.get(
    "/apps/{slug:app_id}/counts", response=reads(404, ok=AppCountsAnswer), operation_id="count_app_runs"
)
def show(request: HttpRequest, app_id: AppId) -> AppCountsAnswer:
    """The number of runs of an App by state and release, up to the last midnight. Users are not shown."""
    app = visible(user_of(request), app_id)
    queries.require_owner_or_administrator(user_of(request), app)
    return AppCountsAnswer(counts=AppCounts(**asdict(counts.counts_of_app(app))))
