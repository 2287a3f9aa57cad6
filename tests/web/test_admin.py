"""The administration: for administrators only, and what its actions do."""

from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gridapps.access import operations as access
from gridapps.access import queries
from gridapps.access.models import Developer, User
from gridapps.registry import certificates
from gridapps.registry import operations as registry
from gridapps.registry.authority import Authority
from gridapps.registry.models import Certificate, Release
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
MODELS = [
    "access_user", "access_developer", "access_accesstag", "registry_app", "registry_release", "registry_tag",
    "registry_certificate", "registry_share", "exports_export", "runs_run",
]  # fmt: skip


def browser(user: User) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    client.force_login(user)
    return client


def act(user: User, model: str, action: str, pk: int) -> None:
    answer = browser(user).post(
        reverse(f"admin:{model}_changelist"), {"action": action, "_selected_action": [pk]}
    )
    assert answer.status_code == 302


@pytest.mark.parametrize("model", MODELS)
def test_every_list_is_for_administrators(cast: Cast, model: str) -> None:
    path = reverse(f"admin:{model}_changelist")
    assert browser(cast.administrator).get(path).status_code == 200
    for user in (cast.developer, cast.outsider):
        assert browser(user).get(path).status_code == 302


@pytest.mark.parametrize("model", ["registry_app", "registry_release", "registry_certificate", "runs_run"])
def test_what_programs_made_is_not_edited_by_hand(cast: Cast, model: str) -> None:
    assert browser(cast.administrator).get(reverse(f"admin:{model}_add")).status_code == 403


def test_developers_are_verified_and_refused_by_actions(cast: Cast) -> None:
    request, _ = access.request_developer(user=cast.analyst, statement="roads")
    act(cast.administrator, "access_developer", "verify", request.pk)
    assert queries.is_developer(cast.analyst)
    assert Developer.objects.get(pk=request.pk).decided_by == cast.administrator
    act(cast.administrator, "access_developer", "refuse", request.pk)
    assert not queries.is_developer(cast.analyst)


def test_a_certificate_is_revoked_by_an_action(cast: Cast) -> None:
    Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)
    issued = certificates.issue(user=cast.developer, name="laptop")
    act(cast.administrator, "registry_certificate", "revoke", issued.certificate.pk)
    assert Certificate.objects.get().revoked_at is not None


def test_a_refused_release_shows_its_reasons(cast: Cast) -> None:
    app = registry.create_app(by=cast.developer, app_id="roads", title="Roads")
    release = Release.objects.create(
        app=app, digest="sha256:" + "1" * 64, media_type="m", state="refused", size=1, layers=1,
        reasons=["The image has no ENTRYPOINT."], pushed_at=timezone.now(),
    )  # fmt: skip
    page = browser(cast.administrator).get(reverse("admin:registry_release_change", args=[release.pk]))
    assert b"The image has no ENTRYPOINT." in page.content
