"""Pages that ask an administrator before an action: for a reason, or only whether it is meant."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from gridapps.registry import sharing
from gridapps.web.administration.operated import Operated

NAMED = 20  # of the chosen objects


class ReasonForm(forms.Form):
    """The reason. The operation validates it."""

    reason = forms.CharField(
        max_length=sharing.MAX_REASON,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="One line, which users will read.",
    )


class BlockForm(ReasonForm):
    """The reason, and what happens to running tasks."""

    running = forms.ChoiceField(
        label="Running tasks",
        choices=[("finish", "continue to their end"), ("stop", "are stopped")],
        initial="finish",
    )


class Confirmation(forms.Form):
    """Nothing but the button."""


F = TypeVar("F", bound=forms.Form)
T = TypeVar("T")


def asked(
    page: Operated, request: HttpRequest, chosen: QuerySet[Any], form: type[F], **words: str
) -> F | HttpResponse:
    """The valid form, or else the page that asks for it.

    `words`: action, title, verb, and an explanation for a form without fields.
    """
    filled = form(request.POST if "confirmed" in request.POST else None)
    if filled.is_bound and filled.is_valid():
        return filled
    # Django limits the fields of a request, so rows beyond one page of the list are not named one by one.
    across = request.POST.get("select_across") == "1"
    keys = list(chosen.values_list("pk", flat=True)[: 1 if across else None])
    context = {
        **page.admin_site.each_context(request), **words,
        "opts": page.model._meta, "form": filled, "target": request.get_full_path(),
        "first": chosen[:NAMED], "more": max(chosen.count() - NAMED, 0), "keys": keys, "across": across,
    }  # fmt: skip
    return TemplateResponse(request, "administration/asked.html", context)


def confirmed(
    page: Operated,
    request: HttpRequest,
    chosen: QuerySet[Any],
    operation: Callable[[T], Any],
    *,
    things: Iterable[T] | None = None,
    done: str,
    **words: str,
) -> HttpResponse | None:
    """Ask, and then call an operation for each of the chosen rows, or of the `things` that they stand for.

    `words` as for `asked`, `done` as for `Operated.for_each`.
    """
    form = asked(page, request, chosen, Confirmation, **words)
    if isinstance(form, HttpResponse):
        return form
    page.for_each(request, chosen if things is None else things, operation, done=done)
    return None
