"""Rows for the pages of the administration, and the URLs of all these pages.

Run with Django's settings and the environment of an instance. Arguments: name of an administrator, of a
developer, an app-id with a release, the key of an export. Prints the URLs as a JSON list.
"""

import json
import sys
from datetime import timedelta

import django

django.setup()

from django.contrib import admin  # noqa: E402 - models come after django.setup()
from django.contrib.admin.models import CHANGE, LogEntry  # noqa: E402
from django.db.models import Model  # noqa: E402
from django.http import HttpRequest  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from gridapps.access import applications  # noqa: E402
from gridapps.access import operations as access  # noqa: E402
from gridapps.access.models import AccessTag, User  # noqa: E402
from gridapps.registry.models import (  # noqa: E402
    App,
    Attachment,
    Certificate,
    NodeCertificate,
    Share,
    Tag,
)
from gridapps.runs import operations as runs  # noqa: E402
from gridapps.runs.models import Node  # noqa: E402


def create(administrator: User, developer: User, app: App, export: int) -> None:
    """A row of each model that has none yet."""
    now, release = timezone.now(), app.releases.first()
    assert release is not None
    access.create_tag(by=administrator, name="surveyors", description="Who surveys roads and bridges")
    tag = AccessTag.objects.get(name="surveyors")
    tag.holders.add(developer)
    applications.register(by=developer, name="viewer", kind=applications.Kind.MACHINE, scopes=["runs:read"])
    Tag.objects.get_or_create(app=app, name="v1", defaults={"release": release, "moved_at": now})
    Attachment.objects.create(
        release=release,
        kind="signature",
        digest="sha256:" + "a" * 64,
        manifest="sha256:" + "b" * 64,
        position=0,
        media_type="application/vnd.dev.cosign.simplesigning.v1+json",
        size=10,
        pushed_at=now,
    )  # fmt: skip
    Share.objects.create(
        app=app,
        release=release,
        access_tag=tag,
        state=Share.State.REVOKED,
        ended_at=now,
        title=app.title,
        created_by=administrator,
        arguments=app.arguments,
        cpus=app.cpus,
        memory=app.memory,
        disk=app.disk,
        time=app.time,
    )  # fmt: skip
    valid = {"not_before": now, "not_after": now + timedelta(days=1)}
    Certificate.objects.create(user=developer, name="laptop", serial="a1", fingerprint="a" * 64, **valid)
    NodeCertificate.objects.create(node="n9", serial="b1", fingerprint="b" * 64, **valid)
    Node.objects.create(
        name="n9",
        slots=2,
        cpus=2,
        memory=2**31,
        disk=2**34,
        version="0.1.0",
        started_at=now,
        last_seen_at=now,
        stuck="gridapps-0123456789abcdef0123456789abcdef-with-a-long-name since a while",
    )  # fmt: skip
    wanted = runs.Request(app=app.app_id, export=export, arguments={})
    run, _ = runs.submit(by=developer, request=wanted)
    runs.cancel(by=developer, run=run)


def pages(site: admin.AdminSite, request: HttpRequest) -> list[str]:
    """The first page, and the pages of each model and of its newest row."""
    found = [reverse("admin:index"), reverse("admin:runs_queue")]
    labels = set()
    for model, page in site._registry.items():
        label = f"{model._meta.app_label}_{model._meta.model_name}"
        labels.add(model._meta.app_label)
        row: Model | None = model._default_manager.order_by("pk").last()
        assert row is not None, f"{label} has no row"
        found.append(reverse(f"admin:{label}_changelist"))
        found += [reverse(f"admin:{label}_{name}", args=[row.pk]) for name in ("change", "history")]
        LogEntry.objects.log_actions(str(request.user.pk), [row], CHANGE, change_message="changed for a test")
        if model is User:
            found.append(reverse("admin:auth_user_password_change", args=[row.pk]))
        if page.has_add_permission(request):
            found.append(reverse(f"admin:{label}_add"))
        if page.has_delete_permission(request):
            found.append(reverse(f"admin:{label}_delete", args=[row.pk]))
    found += [reverse("admin:app_list", args=[label]) for label in sorted(labels)]
    return found


def main(administrator: str, developer: str, app: str, export: str) -> None:
    boss = User.objects.get(username=administrator)
    create(boss, User.objects.get(username=developer), App.objects.get(app_id=app), int(export))
    request = HttpRequest()
    request.user = boss
    print(json.dumps(pages(admin.site, request)))


main(*sys.argv[1:])
