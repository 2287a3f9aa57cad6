"""Every operation is recorded in the audit, and no entry has a secret or a name."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gridapps.access import applications
from gridapps.access import operations as access
from gridapps.audit import queries
from gridapps.audit.models import Entry
from gridapps.pki.authority import Authority
from gridapps.promotion import promoting
from gridapps.registry import certificates, node_certificates, operations, sharing
from gridapps.registry.models import App, Release, Share
from gridapps.web.administration.audited import Audited
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def authority(db: None) -> None:
    Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)


def told() -> list[tuple[str, str, str]]:
    """Event, actor and subject of each entry."""
    return list(queries.entries().values_list("event", "actor", "subject"))


def browser(user: Any = None) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    if user is not None:
        client.force_login(user)
    return client


def test_users_tags_and_developers(cast: Cast) -> None:
    ann = access.create_user(by=None, username="ann", password="correct horse battery")
    access.request_developer(user=ann, statement="my statement")
    access.request_developer(user=ann, statement="another")
    access.verify_developer(user=ann, by=cast.administrator)
    access.refuse_developer(user=ann, by=cast.administrator)
    access.create_tag(by=cast.administrator, name="roads")
    for _ in range(2):
        access.give_tag(by=cast.administrator, name="roads", users=[ann, cast.analyst])
    access.take_tag(by=None, name="roads", users=[cast.analyst, cast.outsider])
    token = access.issue_token(by=None, user=ann, lifetime=timedelta(days=1))
    access.retire_user(user=ann, by=cast.administrator)
    who, boss = f"user:{ann.pk}", f"user:{cast.administrator.pk}"
    assert told() == [
        ("user.created", "operator", who),
        ("developer.requested", who, who),
        ("developer.verified", boss, who),
        ("developer.refused", boss, who),
        ("tag.created", boss, "tag:roads"),
        ("tag.given", boss, "tag:roads"),
        ("tag.given", boss, "tag:roads"),
        ("tag.taken", "operator", "tag:roads"),
        ("token.issued", "operator", who),
        ("user.retired", boss, who),
    ]
    everything = "".join(queries.lines(queries.entries()))
    for kept_out in ("ann", "correct horse battery", token, "my statement"):
        assert kept_out not in everything


def test_certificates_and_applications(cast: Cast) -> None:
    issued = certificates.issue(user=cast.developer, name="laptop")
    for _ in range(2):
        certificates.revoke(by=cast.administrator, certificate=issued.certificate)
    node_certificates.issue(by=None, node="b", days=1)
    for _ in range(2):
        node_certificates.revoke(by=None, node="b")
    application, secret = applications.register(
        by=cast.analyst, name="robot", kind=applications.Kind.MACHINE, scopes=["runs:read"]
    )
    answer = browser().post(
        "/api/token",
        {
            "grant_type": "client_credentials",
            "client_id": application.client_id,
            "client_secret": secret,
            "scope": "runs:read",
        },
    )
    token = answer.json()["access_token"]
    applications.delete(by=cast.analyst, pk=application.pk)
    assert [event for event, _, _ in told()] == [
        "certificate.issued", "certificate.revoked", "node-certificate.issued", "node-certificate.revoked",
        "application.registered", "token.issued", "application.deleted",
    ]  # fmt: skip
    assert Entry.objects.get(event=Entry.Event.TOKEN_ISSUED).actor == f"user:{cast.analyst.pk}"
    everything = "".join(queries.lines(queries.entries()))
    for kept_out in (secret, token, application.client_id, "BEGIN"):
        assert kept_out
        assert kept_out not in everything


def test_apps_shares_and_blocks(cast: Cast) -> None:
    app = operations.create_app(by=cast.developer, app_id="roads", title="Roads")
    operations.update_app(by=cast.developer, app_id="roads", changes={"title": "R", "description": "D"})
    release = Release.objects.create(
        app=app, digest="sha256:" + "1" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip
    access.create_tag(by=None, name="city")
    first, second = (
        sharing.share(by=cast.administrator, app_id="roads", release=release.digest, access_tag=tag)[0]
        for tag in ("city", access.create_tag(by=None, name="rail").name)
    )
    sharing.share(by=cast.administrator, app_id="roads", release=release.digest, access_tag="city")
    Share.objects.filter(pk=first.pk).update(copied=1)
    promoting._activate(first)
    promoting._activate(first)
    promoting.fail(second, "gone")
    promoting.fail(second, "gone")
    for _ in range(2):
        sharing.revoke(by=cast.administrator, app_id="roads", pk=first.pk)
    sharing.block(by=cast.administrator, app_id="roads", release=release.digest, reason="wrong heights")
    sharing.unblock(by=cast.administrator, app_id="roads", release=release.digest)
    sharing.block(by=cast.administrator, app_id="roads", reason="leaks")
    operations.delete_app(by=cast.developer, app_id="roads")
    subjects = [(event, subject) for event, _, subject in told() if not event.startswith("tag.")]
    assert subjects == [
        ("app.created", "app:roads"),
        ("app.changed", "app:roads"),
        ("share.created", f"share:{first.pk}"),
        ("share.created", f"share:{second.pk}"),
        ("share.activated", f"share:{first.pk}"),
        ("share.failed", f"share:{second.pk}"),
        ("share.revoked", f"share:{first.pk}"),
        ("block.set", f"release:roads@{release.digest}"),
        ("block.lifted", f"release:roads@{release.digest}"),
        ("block.set", "app:roads"),
        ("app.deleted", "app:roads"),
    ]
    created = queries.entries().filter(event=Entry.Event.SHARE_CREATED).first()
    assert created
    assert created.details == {"release": f"roads@{release.digest}", "access_tag": "city"}


def test_logins(cast: Cast) -> None:
    cast.analyst.set_password("correct horse battery")
    cast.analyst.save()
    for name, password in (
        ("analyst", "wrong"),
        ("analyst", "wrong"),
        ("my password", "analyst"),
        ("analyst", "correct horse battery"),
    ):
        browser().post(reverse("login"), {"username": name, "password": password})
    who = f"user:{cast.analyst.pk}"
    assert told() == [("user.login-failed", who, who), ("user.logged-in", who, who)]


def test_every_class_of_the_administration_is_audited(cast: Cast) -> None:
    assert [name for name, model in admin.site._registry.items() if not isinstance(model, Audited)] == []
    page = reverse("admin:registry_app_change", args=[_app(cast).pk])
    assert browser(cast.administrator).post(page, {"max_running": "2"}).status_code == 302
    entry = Entry.objects.get(event=Entry.Event.ADMINISTERED)
    assert entry.subject == f"app:{App.objects.get().pk}"
    assert entry.actor == f"user:{cast.administrator.pk}"
    assert (entry.details["action"], entry.details["max_running"]) == ("changed", 2)


def test_the_audit_in_the_administration_is_downloaded_and_not_changed(cast: Cast) -> None:
    _app(cast)
    entry = Entry.objects.get()
    page = reverse("admin:audit_entry_changelist")
    client = browser(cast.administrator)
    for found, query in ((1, {"q": "app:"}), (1, {"event": "app.created"}), (0, {"event": "app.deleted"})):
        assert client.get(page, query).context["cl"].result_count == found
    assert f"developer ({entry.actor})" in client.get(page).content.decode()
    answer = client.post(page, {"action": "download", "_selected_action": [entry.pk]})
    (line,) = b"".join(answer).splitlines()
    assert json.loads(line)["subject"] == "app:roads"
    assert client.get(reverse("admin:audit_entry_add")).status_code == 403
    for view in ("change", "delete"):
        address = reverse(f"admin:audit_entry_{view}", args=[entry.pk])
        assert client.post(address, {"post": "yes", "event": "x"}).status_code == 403
    assert browser(cast.developer).get(page).status_code == 302


def _app(cast: Cast) -> App:
    return operations.create_app(by=cast.developer, app_id="roads", title="Roads")
