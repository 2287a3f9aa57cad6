"""Users, developers and access tags in the administration."""

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from oauth2_provider.admin import ApplicationAdmin
from oauth2_provider.models import AccessToken, Application, Grant, IDToken, RefreshToken

from gridapps.access import operations
from gridapps.access.errors import NotAnAdministrator
from gridapps.access.models import AccessTag, Developer, User
from gridapps.audit.administration import Audited

admin.site.unregister(Group)  # permissions are the access tags'
# Tokens are their users' and applications'; retiring a user takes all of them.
admin.site.unregister([AccessToken, Application, Grant, IDToken, RefreshToken])
admin.site.site_header = admin.site.site_title = "GRiD Apps administration"


class _HeldTags(admin.TabularInline):  # type: ignore[type-arg]
    model = AccessTag.holders.through
    verbose_name_plural = "Access tags"
    extra = 0


@admin.register(Application)
class AuditedApplicationAdmin(Audited, ApplicationAdmin):  # type: ignore[misc]
    """OAuth applications of all users. New ones are registered in the application settings."""

    told = ("redirect_uris", "skip_authorization")

    def has_add_permission(self, *_: object, **__: object) -> bool:
        return False


@admin.register(User)
class RetiringUserAdmin(Audited, UserAdmin):  # type: ignore[type-arg]
    """Users and the access tags that they hold. They are retired, not deleted: runs and Apps name them."""

    told = ("is_active", "is_staff", "is_superuser")
    inlines = (_HeldTags,)
    actions = ("retire",)

    @admin.action(description="Retire: deactivate for good, and forget who it was")
    def retire(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        assert isinstance(request.user, User)
        for user in chosen:
            if user.pk == request.user.pk:
                messages.error(request, "Nobody retires oneself: another administrator has to.")
            else:
                operations.retire_user(user=user, by=request.user)

    def has_delete_permission(self, *_: object, **__: object) -> bool:
        return False


@admin.register(AccessTag)
class AccessTagAdmin(Audited):
    """Tags, and who holds them."""

    list_display = ("name", "description")
    search_fields = ("name",)
    autocomplete_fields = ("holders",)


@admin.register(Developer)
class DeveloperAdmin(Audited):
    """Requests to be a developer: verified or refused by actions, never edited."""

    list_display = ("user", "state", "requested_at", "decided_at", "decided_by")
    list_filter = ("state",)
    search_fields = ("user__username", "statement")
    readonly_fields = ("user", "state", "statement", "requested_at", "decided_at", "decided_by")
    actions = ("verify", "refuse")

    @admin.action(description="Verify as developers")
    def verify(self, request: HttpRequest, chosen: QuerySet[Developer]) -> None:
        self._decide(request, chosen, operations.verify_developer)

    @admin.action(description="Refuse, or take the verification back")
    def refuse(self, request: HttpRequest, chosen: QuerySet[Developer]) -> None:
        self._decide(request, chosen, operations.refuse_developer)

    def has_add_permission(self, *_: object, **__: object) -> bool:
        return False

    def _decide(self, request: HttpRequest, chosen: QuerySet[Developer], decide: operations.Decision) -> None:
        assert isinstance(request.user, User)
        try:
            for developer in chosen.select_related("user"):
                decide(user=developer.user, by=request.user)
        except NotAnAdministrator as error:
            messages.error(request, str(error))
