"""Apps, releases, shares and certificates in the administration. Operations make all changes."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from gridapps.access.models import AccessTag
from gridapps.registry import certificates, node_certificates, sharing
from gridapps.registry.models import App, Attachment, Certificate, NodeCertificate, Release, Share, Tag
from gridapps.web.administration.asking import confirmed
from gridapps.web.administration.blocking import Blocking
from gridapps.web.administration.operated import Operated, administrator


@admin.register(App)
class AppAdmin(Blocking):
    """Apps, including deleted ones. Administrators set only the number of concurrent tasks."""

    allowed = ("change",)
    recorded = ("max_running",)
    list_display = ("app_id", "title", "owner", "max_running", "blocked_at", "updated_at", "deleted_at")
    readonly_fields = (
        *("app_id", "owner", "title", "description", "arguments", "cpus", "memory", "disk", "time"),
        *("deleted_at", "blocked_at", "blocked_by", "blocked_reason"),
    )
    search_fields = ("app_id", "title", "owner__username")


@admin.register(Release)
class ReleaseAdmin(Blocking):
    """Releases, with the reasons why they were refused."""

    list_display = ("app", "short", "state", "why", "size", "pushed_at")
    list_filter = ("state", ("blocked_at", admin.EmptyFieldListFilter))
    list_select_related = ("app",)
    search_fields = ("app__app_id", "digest")

    @admin.display(description="digest")
    def short(self, release: Release) -> str:
        return f"{release.digest[:19]}…"

    @admin.display(description="refused or blocked because")
    def why(self, release: Release) -> str:
        return release.blocked_reason or " ".join(release.reasons)


class _NewShare(forms.ModelForm):  # type: ignore[type-arg]
    """What is shared with whom. The operation validates it and copies the App's description."""

    shared_app = forms.CharField(
        label="App",
        max_length=100,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Its app-id.",
    )
    shared_release = forms.CharField(
        label="Release", max_length=200, widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="The digest, sha256:…",
    )  # fmt: skip

    class Meta:
        model = Share
        fields = ("access_tag",)

    def validate_constraints(self) -> None:
        """Skip: the operation fills in the other fields."""


@admin.register(Attachment)
class AttachmentAdmin(Operated):
    """What is attached to releases, and the known key of each signature."""

    list_display = ("release", "subject", "kind", "digest", "verified_by", "size", "pushed_at")
    list_filter = ("kind", ("verified_by", admin.EmptyFieldListFilter))
    search_fields = ("release__app__app_id", "release__digest", "digest")
    exclude = ("payload",)


@admin.register(Share)
class ShareAdmin(Operated):
    """Shares with their progress. The promoter copies new ones; the action revokes shares at once."""

    allowed = ("add",)
    form = _NewShare
    list_display = ("app", "access_tag", "short", "state", "progress", "reason", "created_at")
    list_filter = ("state", "access_tag")
    list_select_related = ("app", "access_tag", "release__app")
    search_fields = ("app__app_id", "release__digest", "access_tag__name")
    actions = ("revoke",)

    @admin.display(description="release")
    def short(self, share: Share) -> str:
        return f"{share.release.digest[:19]}…"

    @admin.display(description="copied")
    def progress(self, share: Share) -> str:
        done = share.copied / share.size if share.size else float(share.state == Share.State.ACTIVE)
        return format_html('<progress max="1" value="{}"></progress> {}', f"{done:.3f}", f"{done:.0%}")

    @admin.action(description="Revoke…")
    def revoke(self, request: HttpRequest, chosen: QuerySet[Share]) -> HttpResponse | None:
        by = administrator(request)
        return confirmed(
            self,
            request,
            chosen.select_related("app"),
            lambda share: sharing.revoke(by=by, app_id=share.app.app_id, pk=share.pk),
            action="revoke",
            title="Revoke shares",
            verb="Revoke the shares",
            explanation="The holders of the access tags can no longer run the releases.",
            done="{} revoked.",
        )

    def save_model(self, request: HttpRequest, obj: Share, form: Any, *_: Any) -> None:
        tag: AccessTag = form.cleaned_data["access_tag"]
        share, _new = sharing.share(
            by=administrator(request),
            app_id=form.cleaned_data["shared_app"],
            release=form.cleaned_data["shared_release"],
            access_tag=tag.name,
        )
        obj.pk = share.pk
        obj.refresh_from_db()

    def get_fields(self, _: HttpRequest, obj: Share | None = None) -> Any:
        shown = [field.name for field in Share._meta.fields if field.name != "id"]
        return shown if obj else ("shared_app", "shared_release", "access_tag")


@admin.register(Tag)
class TagAdmin(Operated):
    """Tags and their present releases."""

    list_display = ("app", "name", "release", "moved_at")
    search_fields = ("app__app_id", "name")


@admin.register(Certificate)
class CertificateAdmin(Operated):
    """Certificates; the action revokes them at once."""

    list_display = ("serial", "name", "user", "not_after", "revoked_at")
    search_fields = ("serial", "fingerprint", "name", "user__username")
    actions = ("revoke",)

    @admin.action(description="Revoke…")
    def revoke(self, request: HttpRequest, chosen: QuerySet[Certificate]) -> HttpResponse | None:
        by = administrator(request)
        return confirmed(
            self,
            request,
            chosen,
            lambda certificate: certificates.revoke(by=by, certificate=certificate),
            things=chosen.filter(revoked_at__isnull=True),
            action="revoke",
            title="Revoke client certificates",
            verb="Revoke the certificates",
            explanation="They no longer authorise anything. This cannot be undone.",
            done="{} certificates revoked. They no longer authorise anything.",
        )


@admin.register(NodeCertificate)
class NodeCertificateAdmin(Operated):
    """Certificates of nodes; the action revokes all certificates of the chosen nodes at once."""

    list_display = ("node", "serial", "not_after", "revoked_at")
    search_fields = ("node", "serial", "fingerprint")
    actions = ("revoke",)

    @admin.action(description="Revoke every certificate of the node…")
    def revoke(self, request: HttpRequest, chosen: QuerySet[NodeCertificate]) -> HttpResponse | None:
        by = administrator(request)
        return confirmed(
            self,
            request,
            chosen,
            lambda name: node_certificates.revoke(by=by, node=name),
            things=sorted(set(chosen.values_list("node", flat=True))),
            action="revoke",
            title="Revoke every certificate of nodes",
            verb="Revoke the certificates",
            explanation="The engines of these nodes can no longer pull images.",
            done="Certificates of {} nodes revoked. Their engines can no longer pull.",
        )
