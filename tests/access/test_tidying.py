"""Expired rows are removed, and no others; the plan only counts them."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken

from gridapps.access.models import User
from gridapps.housekeeping import expiry as tidying

pytestmark = pytest.mark.django_db


def test_what_has_expired_goes() -> None:
    user = User.objects.create(username="ann")
    application = Application.objects.create(name="tool", user=user, client_type="public")
    now = timezone.now()
    for name, expires in (("old", now - timedelta(minutes=1)), ("new", now + timedelta(hours=1))):
        Session.objects.create(session_key=name, session_data="x", expire_date=expires)
        AccessToken.objects.create(user=user, token=name, expires=expires, scope="api")
        Grant.objects.create(
            user=user,
            code=name,
            application=application,
            expires=expires,
            redirect_uri="https://a/",
            scope="api",
        )
    # Refresh tokens outlive their access tokens, and used ones reveal thefts.
    for name, ended, revoked in (
        ("idle", 31, None),
        ("used", 1, now),
        ("used long ago", 31, now - timedelta(days=31)),
    ):
        access = AccessToken.objects.create(
            user=user, token=name, expires=now - timedelta(days=ended), scope="api"
        )
        RefreshToken.objects.create(
            user=user, token=name, application=application, access_token=access, revoked=revoked
        )
    expected = [
        "1 expired sessions",
        "3 expired access tokens",
        "2 expired refresh tokens",
        "1 expired authorization codes",
    ]
    assert tidying.plan() == expected
    assert list(tidying.tidy()) == expected
    assert list(tidying.tidy()) == []
    assert [session.session_key for session in Session.objects.all()] == ["new"]
    assert sorted(AccessToken.objects.values_list("token", flat=True)) == ["new", "used"]
    assert [grant.code for grant in Grant.objects.all()] == ["new"]
    assert [token.token for token in RefreshToken.objects.all()] == ["used"]
