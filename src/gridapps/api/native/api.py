"""The native API: its routers, its errors, and the check of query parameters."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from gridapps.access.errors import NotADeveloper, NotAnAdministrator
from gridapps.access.scopes import API
from gridapps.api import errors
from gridapps.api.errors import ApiError
from gridapps.api.native import (
    apps,
    audit,
    certificates,
    counts,
    developer,
    exports,
    faults,
    hooks,
    log,
    me,
    outputs,
    releases,
    runs,
    shares,
    showing,
    tasks,
    uploads,
)
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.parsing import JsonParser, names
from gridapps.audit import record
from gridapps.runs.errors import Blocked

# Refusals of known users, which the audit records.
_FORBIDDEN = (NotAnAdministrator, NotADeveloper, Blocked)

api = NinjaAPI(
    title="GRiD Apps",
    version="3",
    description="Algorithms in container images, run where the point clouds are.",
    openapi_url=None,
    docs_url=None,
    auth=with_scope(API),  # for routers that declare no scope
    parser=JsonParser(),
    urls_namespace="native",
)


def answered(answer: errors.Answer) -> HttpResponse:
    """The response for the answer of an error."""
    return JsonResponse(answer.body, status=answer.status, headers=answer.headers)


def _on_error(request: HttpRequest, error: Any) -> HttpResponse:
    answer = errors.answer(error)
    if isinstance(error, _FORBIDDEN):
        record.refused(
            by=user_of(request), subject=f"call:{request.path}", code=answer.body["code"], sentence=str(error)
        )
    return answered(answer)


def _on_http_error(request: HttpRequest, error: Any) -> HttpResponse:
    # The framework wraps exceptions raised while the body is read.
    if isinstance(error.__cause__, ApiError):
        return _on_error(request, error.__cause__)
    if isinstance(error, AuthenticationError):
        return answered(errors.say("unauthenticated", "Log in first: a bearer token or a session is needed."))
    return _on_error(request, error)


def _on_invalid(_: HttpRequest, error: Any) -> HttpResponse:
    fields = [_field(fault) for fault in error.errors[:20]]
    # A body of either of two forms has the same fault in both: report it once.
    unique = list(dict.fromkeys(fields))
    return answered(errors.say("invalid-request", "The request does not have the right form.", unique))


def _field(fault: dict[str, Any]) -> tuple[str, str]:
    source, *place = fault["loc"]
    if source == "body":
        inner = [part for part in place[1:] if part not in {"of an export", "of a file"}]
        pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in inner)
    else:
        pointer = "?" + ".".join(map(str, place))
    return pointer[:500], faults.sentence(fault)


def _strict_query(run: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse query parameters that the call does not declare."""
    operation = run.__self__  # type: ignore[attr-defined]
    known = {
        name
        for model in operation.models
        if model.__ninja_param_source__ == "query"
        for name in model.__ninja_flatten_map__
    }

    def fault(request: HttpRequest) -> HttpResponse | None:
        try:
            names(request.GET, known)
        except Exception as error:
            return _on_error(request, error)
        return None

    if inspect.iscoroutinefunction(run):

        @wraps(run)
        async def later(request: HttpRequest, **keys: Any) -> HttpResponseBase:
            found: HttpResponseBase = fault(request) or await run(request, **keys)
            return found

        return later

    @wraps(run)
    def now(request: HttpRequest, **keys: Any) -> HttpResponseBase:
        found: HttpResponseBase = fault(request) or run(request, **keys)
        return found

    return now


api.add_exception_handler(Exception, _on_error)
api.add_exception_handler(HttpError, _on_http_error)
api.add_exception_handler(ValidationError, _on_invalid)
api.add_decorator(_strict_query, mode="view")
for _module in (
    me, developer, certificates, apps, releases, counts, shares, exports, uploads, runs, showing, log,
    outputs, tasks, hooks, audit,
):  # fmt: skip
    api.add_router("", _module.router)
