"""The pages of hooks: only the user's own hooks, the secret shown once, errors beside the form."""

import html
import re
from typing import Any

import pytest
from django.urls import reverse

from gridapps.hooks import operations
from gridapps.hooks.models import Delivery, Hook
from tests.fixtures.cast import Cast
from tests.web.test_pages import browser

pytestmark = pytest.mark.django_db
NEW: dict[str, Any] = {"target": "https://example.com/told", "events": ["run.complete", "run.started"]}


def test_strangers_are_sent_to_the_login(db: None) -> None:
    for name, keys in (("hooks", []), ("hook", [1])):
        answer = browser().get(reverse(name, args=keys))
        assert answer["Location"] == f"/login?next={reverse(name, args=keys)}"


def test_a_hook_from_creation_to_deletion(cast: Cast) -> None:
    client = browser(cast.analyst)
    assert reverse("hooks") in client.get(reverse("settings")).content.decode()
    made = client.post(reverse("create-hook"), NEW)
    assert made["Cache-Control"] == "no-store"
    hook = Hook.objects.get()
    assert (hook.owner, hook.target, hook.events) == (cast.analyst, NEW["target"], NEW["events"])
    assert hook.secret in made.content.decode()
    shown = client.get(reverse("hook", args=[hook.pk])).content.decode()
    assert hook.secret not in shown
    assert hook.target in client.get(reverse("hooks")).content.decode()
    renewed = client.post(reverse("renew-hook-secret", args=[hook.pk])).content.decode()
    assert Hook.objects.get().secret in renewed
    assert hook.secret not in renewed
    assert client.post(reverse("test-hook", args=[hook.pk])).status_code == 302
    Delivery.objects.update(tries=1, status=500, error="It answered with <500>.")
    page = client.get(reverse("hook", args=[hook.pk])).content.decode()
    assert "It answered with &lt;500&gt;." in page
    client.post(reverse("delete-hook", args=[hook.pk]))
    assert not Hook.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "https://192.168.1.1/"}, "cannot lead to private addresses"),
        ({"target": "http://example.org/"}, "over https only"),
        ({"events": []}, "This field is required"),
        ({"events": ["newdata.loaded"]}, "not one of the available choices"),
    ],
)
def test_what_is_refused_stands_beside_the_form(cast: Cast, changes: dict[str, Any], words: str) -> None:
    answer = browser(cast.analyst).post(reverse("create-hook"), NEW | changes)
    assert answer.status_code == 400
    text = html.unescape(re.sub(r"\s+", " ", answer.content.decode()))
    assert words in text
    assert not Hook.objects.exists()


def test_others_find_nothing(cast: Cast) -> None:
    pk = operations.create(by=cast.analyst, target=NEW["target"], events=NEW["events"]).pk
    client = browser(cast.outsider)
    assert NEW["target"] not in client.get(reverse("hooks")).content.decode()
    for key in (pk, pk + 1, 2**64):
        assert client.get(reverse("hook", args=[key])).status_code == 404
        for name in ("test-hook", "renew-hook-secret", "delete-hook"):
            assert client.post(reverse(name, args=[key])).status_code == 404
    assert Hook.objects.get().deliveries.count() == 0
