"""The page of all hooks, and the page of one hook with its deliveries."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from gridapps.hooks import models, operations, queries
from gridapps.hooks.errors import HookConflict, HookNotFound, InvalidHook
from gridapps.web.forms import HookForm, user_of

DELIVERIES_SHOWN = 50
HOOKS_SHOWN = 200


@require_GET
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """The user's hooks, and a form for a new one."""
    return _index(request, HookForm())


@require_POST
@login_required
def create(request: HttpRequest) -> HttpResponse:
    """Create a hook and show its secret once."""
    form = HookForm(request.POST)
    if not form.is_valid():
        return _index(request, form)
    wanted = form.cleaned_data
    try:
        hook = operations.create(by=user_of(request), target=wanted["target"], events=wanted["events"])
    except InvalidHook as error:
        form.add_error("target", " ".join(text for _, text in error.fields))
        return _index(request, form)
    except HookConflict as error:
        form.add_error(None, str(error))
        return _index(request, form)
    return _with_secret(request, hook)


@require_GET
@login_required
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """One hook and its last deliveries."""
    return _page(request, _own(request, pk))


@require_POST
@login_required
def renew_secret(request: HttpRequest, pk: int) -> HttpResponse:
    """Make a new secret and show it once."""
    return _with_secret(request, operations.renew_secret(by=user_of(request), pk=_own(request, pk).pk))


@require_POST
@login_required
def test(request: HttpRequest, pk: int) -> HttpResponse:
    """Send a test event."""
    try:
        operations.test(by=user_of(request), pk=_own(request, pk).pk)
    except HookConflict as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "A test event is on its way. Reload this page in a moment.")
    return redirect("hook", pk)


@require_POST
@login_required
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete a hook and its pending deliveries."""
    try:
        operations.delete(by=user_of(request), pk=_own(request, pk).pk)
    except HookNotFound:
        raise Http404 from None
    messages.success(request, "The hook has been deleted.")
    return redirect("hooks")


def _index(request: HttpRequest, form: HookForm) -> HttpResponse:
    hooks = queries.visible_to(user_of(request)).order_by("-pk")[:HOOKS_SHOWN]
    return render(request, "hooks.html", {"hooks": hooks, "form": form}, status=400 if form.errors else 200)


def _page(request: HttpRequest, hook: models.Hook, *, secret: str = "") -> HttpResponse:
    deliveries = queries.deliveries(hook)[:DELIVERIES_SHOWN]
    return render(request, "hook.html", {"hook": hook, "deliveries": deliveries, "secret": secret})


def _with_secret(request: HttpRequest, hook: models.Hook) -> HttpResponse:
    answer = _page(request, hook, secret=hook.secret)
    answer["Cache-Control"] = "no-store"
    return answer


def _own(request: HttpRequest, pk: int) -> models.Hook:
    found = queries.visible_to(user_of(request)).filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise Http404
    return found
