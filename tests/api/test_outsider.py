"""An outsider learns nothing: the answers for things of other users equal those for absent things.

Compared for each call of the OpenAPI document and each page with a key in its address: status, body, headers,
and the number and form of the queries, which could make an answer slower.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application

from gridapps.access import operations as access
from gridapps.access.models import User
from gridapps.api.native.api import api
from gridapps.api.native.document import document
from gridapps.exports.models import ExportUpload, UploadFile
from gridapps.hooks.models import Delivery, Hook
from gridapps.registry import certificates
from gridapps.registry import operations as registry
from gridapps.registry.models import Attachment, Release, Share
from gridapps.runs import operations
from gridapps.runs.models import Output
from gridapps.web.urls import urlpatterns
from tests.api.conftest import DIGEST, Caller, Callers, MakeApp, MakeExport
from tests.api.silence import Heard, listen, spellings

ABSENT_RUN = "00000000-0000-4000-8000-000000000000"
Places = dict[str, tuple[str, str]]  # by the name of a key: one that exists, and one that does not
CALLS = [
    (method.upper(), path, call)
    for path, calls in document(api)["paths"].items()
    for method, call in calls.items()
    if "{" in path
]
FREE = {"client"}  # for everybody
PAGES = [each for each in urlpatterns if each.pattern.converters and each.name not in FREE]
SCHEMAS = document(api)["components"]["schemas"]
CANDIDATES = ("x", "1", "roads", "run.complete", "https://example.org/hook", DIGEST, "s" * 40)


@pytest.fixture
def world(callers: Callers, make_app: MakeApp, make_export: MakeExport) -> Places:
    """One thing of each kind that has a key, none of it the outsider's; and absent keys."""
    app, release = make_app(), Release.objects.get()
    access.create_tag(by=None, name="city")
    access.give_tag(by=None, name="city", users=[callers.analyst.user])
    access.create_tag(by=None, name="other")
    access.give_tag(by=None, name="other", users=[callers.outsider.user])
    Attachment.objects.create(
        release=release, kind="sbom", media_type="m", digest=DIGEST.replace("1", "4"), size=1,
        manifest=DIGEST, position=0, pushed_at=timezone.now(),
    )  # fmt: skip
    share = Share.objects.create(
        pk=770001, app=app, release=release, access_tag=callers.analyst.user.access_tags.get(),
        state="active", activated_at=timezone.now(), title="Roads", arguments={"type": "object"}, cpus=1,
        memory=2**24, disk=2**20, time=60,
    )  # fmt: skip
    export = make_export(callers.analyst.user, files=1, pk=770002)
    file = export.files.get()
    file.pk, file.name = 770003, "1.laz"
    file.save(force_insert=True)
    wanted = operations.Request(app="roads", export=export.pk, arguments={})
    run, _ = operations.submit(by=callers.analyst.user, request=wanted)
    Output.objects.create(task=run.tasks.all()[0], path="a.txt", size=1, sha256="0" * 64, media_type="x/y")
    hook = Hook.objects.create(
        pk=770004, owner=callers.analyst.user, target="https://example.org", site="https://example.org:443",
        events=["run.complete"], sealed_secret="s" * 40,
    )  # fmt: skip
    Delivery.objects.create(hook=hook, event="run.complete", subject="run", facts={})
    serial = certificates.issue(user=callers.developer.user, name="laptop").certificate.serial
    application = Application.objects.create(
        pk=770005, user=callers.analyst.user, name="robot", client_type="confidential",
        authorization_grant_type="client-credentials",
    )  # fmt: skip
    token = AccessToken.objects.create(
        pk=770006, user=callers.analyst.user, token="t", scope="api",
        expires=timezone.now() + timedelta(hours=1),
    )  # fmt: skip
    upload = ExportUpload.objects.create(
        owner=callers.analyst.user, name="city", skip_bad=False, active_at=timezone.now()
    )
    UploadFile.objects.create(upload=upload, index=0, name="a.laz", size=1)
    return {
        "app_id": ("roads", "raods"),
        "digest": (DIGEST, DIGEST.replace("1", "2")),
        "attachment": (DIGEST.replace("1", "4"), DIGEST.replace("1", "5")),
        "run_id": (str(run.pk), ABSENT_RUN),
        "task_id": (str(run.pk), ABSENT_RUN),
        "key": (str(run.pk), ABSENT_RUN),
        "path": ("0/a.txt", "0/b.txt"),
        "serial": (serial, serial[::-1]),
        "upload_id": (str(upload.pk), ABSENT_RUN),
        "index": ("0", "9"),
        "share": (str(share.pk), "770011"),
        "export": (str(export.pk), "770012"),
        "exportfile": (str(file.pk), "770013"),
        "hook": (str(hook.pk), "770014"),
        "application": (str(application.pk), "770015"),
        "token": (str(token.pk), "770016"),
    }


def restricted(callers: Callers) -> Caller:
    token = access.issue_token(by=None, user=callers.administrator.user, lifetime=timedelta(hours=1))
    return Caller(callers.administrator.user, token)


def stranger(callers: Callers) -> Caller:
    """Another developer, with an App that can be run."""
    user = callers.outsider.user
    access.verify_developer(user=user, by=None)
    app = registry.create_app(by=user, app_id="rivers", title="Rivers")
    Release.objects.create(
        app=app, digest=DIGEST.replace("1", "3"), media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip
    return callers.outsider


VIEWERS: dict[str, Callable[[Callers], Caller]] = {
    "outsider": lambda callers: callers.outsider,
    "stranger": stranger,
    "restricted": restricted,
}


def places_of(names: list[str], address: str, world: Places) -> Places:
    """The keys in an address. A plain `pk` belongs to the part before it."""
    found = {}
    for name in names:
        kind = re.findall(r"(share|export|hook|application|token)s/", address)[-1] if name == "pk" else name
        assert kind in world, f"{address} has a key {name!r}: say in `world` what there is of it"
        found[name] = world[kind]
    return found


def example(schema: dict[str, Any]) -> Any:
    """The smallest value that the schema accepts."""
    if "$ref" in schema:
        return example(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return example(schema[choice][0])
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: example(schema["properties"][name]) for name in schema.get("required", ())}
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    fits = [text for text in CANDIDATES if re.search(schema.get("pattern", ""), text)]
    return next(text for text in fits if len(text) >= schema.get("minLength", 0))


def body_of(call: dict[str, Any]) -> Any:
    content = call.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    body = example(content["application/json"]["schema"])
    # A change without fields is refused before anything is looked up.
    return body or {"title": "x"}


Ask = Callable[[str, str, Any], Any]  # method, path, body


def assert_silent(ask: Ask, method: str, address: str, places: Places, body: Any = None) -> None:
    """Every combination of existing and absent keys gets the same answer."""
    names = {value: name for name, pair in places.items() for value in pair}

    def heard(keys: Mapping[str, str]) -> Heard:
        path = re.sub(r"{(\w+)}", lambda name: keys[name[1]], address)
        return listen(lambda: ask(method, path, body), names)

    *others, nothing = map(heard, spellings(places))
    assert nothing.status in {400, 403, 404, 405}, (method, address)
    for other in others:
        assert other == nothing, (method, address)


@pytest.mark.parametrize("viewer", VIEWERS)
def test_every_call_answers_as_for_nothing(callers: Callers, world: Places, viewer: str) -> None:
    who = VIEWERS[viewer](callers)
    for method, address, call in CALLS:
        places = places_of(re.findall(r"{(\w+)}", address), address, world)
        assert_silent(who, method, address.removeprefix("/api/v3"), places, body_of(call))


def test_the_developer_of_an_app_is_an_outsider_to_its_runs(callers: Callers, world: Places) -> None:
    for method, address, call in CALLS:
        places = places_of(re.findall(r"{(\w+)}", address), address, world)
        if {"run_id", "task_id"} & set(places):
            assert_silent(callers.developer, method, address.removeprefix("/api/v3"), places, body_of(call))


@pytest.mark.parametrize("field", ["export", "exportfile"])
def test_keys_in_bodies_answer_as_for_nothing(callers: Callers, world: Places, field: str) -> None:
    who = stranger(callers)

    def ask(method: str, key: str, _: None) -> Any:
        return who(method, "/apps/rivers/runs", {field: key})

    assert_silent(ask, "POST", "{key}", {"key": world[field]})


def test_who_may_create_no_app_is_not_told_that_a_name_is_taken(callers: Callers, world: Places) -> None:
    def ask(method: str, name: str, _: None) -> Any:
        return callers.outsider(method, "/apps", {"id": name, "title": "x"})

    ask("POST", "anything", None)  # the audit records the same refusal once
    assert_silent(ask, "POST", "{app_id}", {"app_id": world["app_id"]})


def test_that_a_name_is_taken_is_all_that_another_developer_learns(callers: Callers, world: Places) -> None:
    who = stranger(callers)
    answers = [who("POST", "/apps", {"id": "roads", "title": "x"}).content]
    registry.delete_app(by=callers.developer.user, app_id="roads")
    answers.append(who("POST", "/apps", {"id": "roads", "title": "x"}).content)
    Share.objects.all().delete()
    answers.append(who("POST", "/apps", {"id": "roads", "title": "x"}).content)
    assert len(set(answers)) == 1
    assert b"developer" not in answers[0]


@pytest.mark.parametrize("viewer", ["outsider", "stranger", "restricted"])
def test_no_list_names_anything(callers: Callers, world: Places, viewer: str) -> None:
    who = VIEWERS[viewer](callers)
    lists = [path.removeprefix("/api/v3") for path, calls in document(api)["paths"].items() if "get" in calls]
    texts = [who("GET", path).content.decode() for path in lists if "{" not in path]
    texts += [browser(who.user).get(path).content.decode() for path in ("/", "/settings", "/settings/hooks")]
    secrets = ("roads", "Roads", world["run_id"][0], DIGEST[:19], "city", "analyst", world["serial"][0])
    if viewer != "restricted":  # pages of a session are an administrator's
        assert [(secret, text) for secret in secrets for text in texts if secret in text] == []
    else:
        assert [(secret, text) for secret in secrets for text in texts[:-3] if secret in text] == []


def browser(user: User) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    client.force_login(user)
    return client


def on_pages(user: User) -> Ask:
    client = browser(user)
    return lambda method, path, _: client.generic(method, path)


@pytest.mark.parametrize("viewer", ["outsider", "stranger"])
def test_every_page_answers_as_for_nothing(callers: Callers, world: Places, viewer: str) -> None:
    ask = on_pages(VIEWERS[viewer](callers).user)
    for page in PAGES:
        address = "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(page.pattern))
        for method in ("GET", "POST"):
            assert_silent(ask, method, address, places_of(list(page.pattern.converters), address, world))


def test_the_developer_sees_no_page_of_anothers_run(callers: Callers, world: Places) -> None:
    ask = on_pages(callers.developer.user)
    for name, method in (("run", "GET"), ("cancel-run", "POST"), ("show-run", "POST"), ("hide-run", "POST")):
        address = reverse(name, args=[ABSENT_RUN]).replace(ABSENT_RUN, "{run_id}")
        assert_silent(ask, method, address, {"run_id": world["run_id"]})


def test_the_administration_is_closed_alike(callers: Callers, world: Places) -> None:
    client = browser(callers.outsider.user)
    for model, keys in (("registry_share", world["share"]), ("runs_run", world["run_id"])):
        paths = [reverse(f"admin:{model}_change", args=[key]) for key in keys]
        there, nothing = (listen(partial(client.get, path), dict.fromkeys(keys, "key")) for path in paths)
        assert there == nothing
        assert there.status == 302
