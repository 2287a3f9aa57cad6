"""Users, developers and access tags in the administration. Operations make most changes."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.contrib.auth.models import Group
from django.db.models import Case, QuerySet, When
from django.http import HttpRequest, HttpResponse
from oauth2_provider.admin import ApplicationAdmin
from oauth2_provider.models import AccessToken, Application, Grant, IDToken, RefreshToken

from gridapps.access import applications, operations
from gridapps.access.errors import NotAnAdministrator
from gridapps.access.models import AccessTag, Developer, User
from gridapps.web.administration.asking import confirmed
from gridapps.web.administration.audited import Audited
from gridapps.web.administration.operated import Operated, administrator

admin.site.unregister(Group)  # access tags grant permissions
# Tokens belong to users and applications. Retiring a user deletes them.
admin.site.unregister([AccessToken, Application, Grant, IDToken, RefreshToken])


class _ApplicationForm(forms.ModelForm):  # type: ignore[type-arg]
    """Names follow the same rule as those that users give."""

    def clean_name(self) -> str:
        """The name as stored."""
        name = str(self.cleaned_data["name"]).strip()
        if not applications.is_name(name):
            raise forms.ValidationError(applications.NAME_RULE)
        return name


class _UserForm(UserChangeForm):  # type: ignore[type-arg]
    """Adds the access tags, which are the reverse side of a relation."""

    access_tags = forms.ModelMultipleChoiceField(
        AccessTag.objects.order_by("name"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Tasks that the user has queued with a removed tag no longer start.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["access_tags"] = self.instance.access_tags.all()
        self.fields["is_superuser"].label = "Administrator"
        self.fields["is_superuser"].help_text = "May use this administration and the API of administrators."


@admin.register(Application)
class AuditedApplicationAdmin(Audited, ApplicationAdmin):  # type: ignore[misc]
    """OAuth applications of all users. Users register them in the application settings."""

    allowed = ("change", "delete")
    form = _ApplicationForm
    recorded = ("redirect_uris", "skip_authorization")


@admin.register(User)
class RetiringUserAdmin(Operated, UserAdmin):  # type: ignore[type-arg]
    """Users and their access tags. They are retired, not deleted, because runs and Apps refer to them.

    One checkbox makes an administrator. There are no other permissions for the administration.
    """

    allowed = ("add", "change")
    recorded = ("is_active", "is_superuser")
    form = _UserForm
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Personal data", {"fields": ("first_name", "last_name", "email")}),
        ("Permissions", {"fields": ("is_active", "is_superuser", "access_tags")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    list_display = ("username", "email", "developing", "is_superuser", "is_active", "last_login")
    list_filter = ("is_superuser", "is_active", "developer__state", "access_tags")
    list_select_related = ("developer",)
    actions = ("verify", "refuse", "retire")

    @admin.display(description="developer")
    def developing(self, user: User) -> str:
        developer: Developer | None = getattr(user, "developer", None)
        return developer.state if developer else ""

    @admin.action(description="Verify as developer")
    def verify(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        _decide(self, request, chosen, operations.verify_developer, done="{} verified as developers.")

    @admin.action(description="Refuse as developer, or withdraw the verification")
    def refuse(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        _decide(self, request, chosen, operations.refuse_developer, done="{} refused as developers.")

    @admin.action(description="Retire…")
    def retire(self, request: HttpRequest, chosen: QuerySet[User]) -> HttpResponse | None:
        by = administrator(request)

        def retire(user: User) -> None:
            if user.pk == by.pk:
                raise NotAnAdministrator("You cannot retire yourself; ask another administrator.")
            operations.retire_user(user=user, by=by)

        return confirmed(
            self,
            request,
            chosen,
            retire,
            action="retire",
            title="Retire users",
            verb="Retire the users",
            explanation="They are deactivated for good, and their personal data is deleted.",
            done="{} retired.",
        )

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        obj.is_staff = obj.is_superuser
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, *_: Any) -> None:
        if "access_tags" in form.cleaned_data:
            user, by = form.instance, administrator(request)
            wanted, held = set(form.cleaned_data["access_tags"]), set(user.access_tags.all())
            for tag in wanted - held:
                operations.give_tag(by=by, name=tag.name, users=[user])
            for tag in held - wanted:
                operations.take_tag(by=by, name=tag.name, users=[user])


class _TagForm(forms.ModelForm):  # type: ignore[type-arg]
    """The holders by name: a list of all users has no end."""

    holders = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 10, "spellcheck": "false"}),
        help_text="User names, one per line. Tasks that users have queued with a removed tag do not start.",
    )

    class Meta:
        model = AccessTag
        fields = ("name", "description")
        error_messages = {"name": {"invalid": "A name has a-z, 0-9 and -, and does not begin with -."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            names = self.instance.holders.order_by("username").values_list("username", flat=True)
            self.initial["holders"] = "\n".join(names)

    def clean_holders(self) -> set[User]:
        """The users with these names."""
        names = {name.strip() for name in self.cleaned_data["holders"].splitlines()} - {""}
        found = set(User.objects.filter(username__in=names))
        if unknown := sorted(names - {user.username for user in found}):
            raise forms.ValidationError(
                "There are no users with these names: %(names)s", params={"names": ", ".join(unknown)}
            )
        return found


@admin.register(AccessTag)
class AccessTagAdmin(Operated):
    """Tags and their holders. A tag cannot be renamed, because the audit refers to it by name."""

    allowed = ("add", "change")
    list_display = ("name", "description")
    search_fields = ("name",)
    fields = ("name", "description", "holders")
    form = _TagForm
    actions = ("remove",)

    @admin.action(description="Delete…")
    def remove(self, request: HttpRequest, chosen: QuerySet[AccessTag]) -> HttpResponse | None:
        by = administrator(request)
        return confirmed(
            self,
            request,
            chosen,
            lambda tag: operations.delete_tag(by=by, name=tag.name),
            action="remove",
            title="Delete access tags",
            verb="Delete the access tags",
            explanation="Only tags without shares are deleted.",
            done="{} deleted.",
        )

    def save_model(self, request: HttpRequest, obj: AccessTag, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
        else:
            made = operations.create_tag(
                by=administrator(request), name=obj.name, description=obj.description
            )
            obj.pk = made.pk

    def get_readonly_fields(self, _: HttpRequest, obj: AccessTag | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    def save_related(self, request: HttpRequest, form: Any, *_: Any) -> None:
        tag, by = form.instance, administrator(request)
        wanted, held = form.cleaned_data["holders"], set(tag.holders.all())
        operations.give_tag(by=by, name=tag.name, users=_in_order(wanted - held))
        operations.take_tag(by=by, name=tag.name, users=_in_order(held - wanted))


@admin.register(Developer)
class DeveloperAdmin(Operated):
    """Requests to become a developer, pending ones first. Actions verify or refuse them."""

    allowed = ("change",)
    list_display = ("user", "state", "says", "requested_at", "decided_at", "decided_by")
    list_filter = ("state",)
    list_select_related = ("user", "decided_by")
    search_fields = ("user__username", "statement")
    readonly_fields = ("user", "state", "statement", "requested_at", "decided_at", "decided_by")
    ordering = (Case(When(state=Developer.State.REQUESTED, then=0), default=1), "-requested_at")
    actions = ("verify", "refuse")

    @admin.display(description="statement")
    def says(self, developer: Developer) -> str:
        return developer.statement[:300]

    @admin.action(description="Verify as developer")
    def verify(self, request: HttpRequest, chosen: QuerySet[Developer]) -> None:
        _decide(self, request, _users(chosen), operations.verify_developer, done="{} verified.")

    @admin.action(description="Refuse, or withdraw the verification")
    def refuse(self, request: HttpRequest, chosen: QuerySet[Developer]) -> None:
        _decide(self, request, _users(chosen), operations.refuse_developer, done="{} refused.")


def _decide(
    page: Operated, request: HttpRequest, users: Iterable[User], decide: operations.Decision, *, done: str
) -> None:
    by = administrator(request)
    page.for_each(request, users, lambda user: decide(user=user, by=by), done=done)


def _users(chosen: QuerySet[Developer]) -> list[User]:
    return [developer.user for developer in chosen.select_related("user")]


def _in_order(users: Iterable[User]) -> list[User]:
    return sorted(users, key=lambda user: user.pk)
