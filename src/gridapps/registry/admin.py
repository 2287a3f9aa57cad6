"""Apps, releases and certificates in the administration: to be looked at; certificates can be revoked."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from gridapps.access.models import User
from gridapps.audit.administration import Audited
from gridapps.registry import certificates, nodes, sharing
from gridapps.registry.models import App, Attachment, Certificate, NodeCertificate, Release, Share, Tag


class _ReadOnly(Audited):
    def has_add_permission(self, *_: object, **__: object) -> bool:
        return False

    def has_change_permission(self, *_: object, **__: object) -> bool:
        return False

    def has_delete_permission(self, *_: object, **__: object) -> bool:
        return False


@admin.register(App)
class AppAdmin(_ReadOnly):
    """Apps, deleted ones as well. Only the number of tasks at once is the administrators' to set."""

    told = ("max_running",)
    list_display = ("app_id", "title", "owner", "max_running", "blocked_at", "updated_at", "deleted_at")
    readonly_fields = (
        *("app_id", "owner", "title", "description", "arguments", "cpus", "memory", "disk", "time"),
        *("deleted_at", "blocked_at", "blocked_by", "blocked_reason"),
    )
    search_fields = ("app_id", "title", "owner__username")

    def has_change_permission(self, *asked: Any, **more: Any) -> bool:
        return admin.ModelAdmin.has_change_permission(self, *asked, **more)


@admin.register(Release)
class ReleaseAdmin(_ReadOnly):
    """Releases with the reasons of refused ones."""

    list_display = ("app", "digest", "state", "blocked_at", "size", "pushed_at")
    list_filter = ("state",)
    search_fields = ("app__app_id", "digest")


@admin.register(Attachment)
class AttachmentAdmin(_ReadOnly):
    """What is attached to releases, and by which known key signatures are."""

    list_display = ("release", "kind", "digest", "verified_by", "size", "pushed_at")
    list_filter = ("kind", "verified_by")
    search_fields = ("release__app__app_id", "release__digest", "digest")
    exclude = ("payload",)


@admin.register(Share)
class ShareAdmin(_ReadOnly):
    """Shares with their progress; the action takes them back at once."""

    list_display = (
        "app",
        "access_tag",
        "release",
        "state",
        "copied",
        "size",
        "scanned_at",
        "created_by",
        "created_at",
    )
    list_filter = ("state", "access_tag")
    search_fields = ("app__app_id", "release__digest", "access_tag__name")
    actions = ("revoke",)

    @admin.action(description="Revoke at once")
    def revoke(self, request: HttpRequest, chosen: QuerySet[Share]) -> None:
        assert isinstance(request.user, User)
        for share in chosen.select_related("app"):
            sharing.revoke(by=request.user, app_id=share.app.app_id, pk=share.pk)


@admin.register(Tag)
class TagAdmin(_ReadOnly):
    """Where tags point now."""

    list_display = ("app", "name", "release", "moved_at")
    search_fields = ("app__app_id", "name")


@admin.register(Certificate)
class CertificateAdmin(_ReadOnly):
    """Certificates; the action revokes them at once."""

    list_display = ("serial", "name", "user", "not_after", "revoked_at")
    search_fields = ("serial", "fingerprint", "name", "user__username")
    actions = ("revoke",)

    @admin.action(description="Revoke at once")
    def revoke(self, request: HttpRequest, chosen: QuerySet[Certificate]) -> None:
        assert isinstance(request.user, User)
        for certificate in chosen:
            certificates.revoke(by=request.user, certificate=certificate)


@admin.register(NodeCertificate)
class NodeCertificateAdmin(_ReadOnly):
    """Certificates of nodes; the action revokes every one of the nodes chosen, at once."""

    list_display = ("node", "serial", "not_after", "revoked_at")
    search_fields = ("node", "serial", "fingerprint")
    actions = ("revoke",)

    @admin.action(description="Revoke every certificate of these nodes at once")
    def revoke(self, request: HttpRequest, chosen: QuerySet[NodeCertificate]) -> None:
        assert isinstance(request.user, User)
        for name in set(chosen.values_list("node", flat=True)):
            nodes.revoke(by=request.user, node=name)
