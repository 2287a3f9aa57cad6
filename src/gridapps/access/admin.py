"""Users, developers and access tags in the administration."""

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest

from gridapps.access import operations
from gridapps.access.errors import NotAnAdministrator
from gridapps.access.models import AccessTag, Developer, User

admin.site.unregister(Group)  # permissions are the access tags'
admin.site.site_header = admin.site.site_title = "GRiD Apps administration"


class _HeldTags(admin.TabularInline):  # type: ignore[type-arg]
    model = AccessTag.holders.through
    verbose_name_plural = "Access tags"
    extra = 0


@admin.register(User)
class RetiringUserAdmin(UserAdmin):  # type: ignore[type-arg]
    """Users and the access tags that they hold. They are retired, not deleted: runs and Apps name them."""

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
class AccessTagAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Tags, and who holds them."""

    list_display = ("name", "description")
    search_fields = ("name",)
    autocomplete_fields = ("holders",)


@admin.register(Developer)
class DeveloperAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
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
