"""Forms that ask an administrator for a reason before an action."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from gridapps.registry import sharing
from gridapps.web.administration.operated import Operated


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


def asked(
    page: Operated, request: HttpRequest, chosen: QuerySet[Any], form: type[ReasonForm], **words: str
) -> ReasonForm | HttpResponse:
    """The valid form, or else the page that asks for it. `words`: action, title, verb."""
    filled = form(request.POST if "confirmed" in request.POST else None)
    if filled.is_bound and filled.is_valid():
        return filled
    site = page.admin_site.each_context(request)
    context = {**site, **words, "opts": page.model._meta, "form": filled, "chosen": chosen}
    return TemplateResponse(request, "administration/reason.html", context)
