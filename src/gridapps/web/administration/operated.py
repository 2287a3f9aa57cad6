"""What the classes of the administration share: operations do the work, and refusals become messages."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from gridapps.access.models import User
from gridapps.access.refusals import Refused
from gridapps.web.administration.audited import Audited
from gridapps.web.administration.details import Details

T = TypeVar("T")


class Operated(Audited):
    """A class whose changes are operations. A refusal becomes a message, and nothing is changed.

    The page of an object has a button for each action.
    """

    change_form_template = "administration/change_form.html"

    def details(self, _request: HttpRequest, _object: Any) -> Details | None:
        """The rows that belong to the object, if its page shows any."""
        return None

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page of one object. Saving it is one transaction."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except Refused as error:
            messages.error(request, sentence(error))
            return redirect(request.get_full_path())

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add what the template shows besides the fields."""
        if (shown := context.get("original")) is not None:
            choices = self.get_action_choices(request, default_choices=[])
            context["object_actions"] = [each for each in choices if each[0] != "delete_selected"]
            context["details"] = self.details(request, shown)
        return super().render_change_form(request, context, *args, **kwargs)

    def for_each(
        self, request: HttpRequest, things: Iterable[T], operation: Callable[[T], Any], *, done: str
    ) -> None:
        """Call an operation for each of the chosen things, and report the results.

        `done` is a sentence with a placeholder for the count. An operation that returns False is not counted.
        """
        count = 0
        for thing in things:
            try:
                count += operation(thing) is not False
            except Refused as error:
                messages.error(request, f"{thing}: {sentence(error)}")
        messages.info(request, done.format(count))


def administrator(request: HttpRequest) -> User:
    """The authenticated administrator."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def sentence(error: Refused) -> str:
    """The refusal and its reasons by field, as one text."""
    return " ".join(dict.fromkeys([str(error), *(text for _, text in error.fields)]))
