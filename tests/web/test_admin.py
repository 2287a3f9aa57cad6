"""The administration: who may use it, and what its actions do."""

import uuid
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gridapps.access import applications, permissions
from gridapps.access import operations as access
from gridapps.access.errors import LastAdministrator, NotAnAdministrator
from gridapps.access.models import AccessTag, Developer, User
from gridapps.audit.models import Entry
from gridapps.exports.models import Export, ExportFile
from gridapps.pki.authority import Authority
from gridapps.registry import certificates, sharing
from gridapps.registry import operations as registry
from gridapps.registry.models import Certificate, Release, Share
from gridapps.runs import operations as runs
from gridapps.runs import queue
from gridapps.runs.models import Node, Run, Task
from gridapps.runs.states import State
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db
MODELS = [
    "access_user", "access_developer", "access_accesstag", "registry_app", "registry_release", "registry_tag",
    "registry_certificate", "registry_share", "registry_nodecertificate", "exports_export", "runs_run",
    "runs_node",
]  # fmt: skip


def browser(user: User) -> Client:
    client = Client(headers={"Host": settings.GRIDAPPS.host, "X-Forwarded-Proto": "https"})
    client.force_login(user)
    return client


def act(user: User, model: str, action: str, *pks: object, **form: str) -> str:
    """Choose rows and an action, confirm it if asked, and return the resulting page."""
    chosen = {"action": action, "_selected_action": pks, **({"confirmed": "yes"} | form if form else {})}
    answer = browser(user).post(reverse(f"admin:{model}_changelist"), chosen, follow=True)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def told() -> list[tuple[str, str]]:
    """Event and subject of each entry of the audit, except logins."""
    entries = Entry.objects.exclude(event="user.logged-in").order_by("pk")
    return list(entries.values_list("event", "subject"))


def test_actions_are_buttons_on_the_list_and_on_the_page_of_an_object(cast: Cast, run: Run) -> None:
    root = browser(cast.administrator)
    for path in (reverse("admin:runs_run_changelist"), reverse("admin:runs_run_change", args=[run.pk])):
        page = root.get(path).content.decode()
        assert '<button class="button" name="action" value="cancel">Cancel…</button>' in page
        assert '<select name="action"' not in page


def test_what_is_chosen_across_the_pages_of_a_list_is_confirmed_at_once(cast: Cast, run: Run) -> None:
    """Django takes 1000 fields in a request, and would refuse a confirmation that names every run."""
    made = [
        Run(
            owner=run.owner,
            release=run.release,
            export=run.export,
            arguments={},
            cpus=1,
            memory=1,
            disk=1,
            time=1,
        )
        for _ in range(30)
    ]  # fmt: skip
    Run.objects.bulk_create(made)
    file = ExportFile.objects.first()
    tasks = [
        Task(run=each, owner=run.owner, index=0, exportfile=file, queued_at=timezone.now()) for each in made
    ]
    Task.objects.bulk_create(tasks)
    chosen = {"action": "cancel", "_selected_action": [run.pk], "select_across": "1", "index": "0"}
    asked = browser(cast.administrator).post(reverse("admin:runs_run_changelist"), chosen).content.decode()
    assert "and 11 more" in asked
    assert asked.count('name="_selected_action"') == 1
    page = act(cast.administrator, "runs_run", "cancel", run.pk, select_across="1", reason="tests")
    assert "31 canceled." in page
    assert set(Run.objects.values_list("state", flat=True)) == {"CANCELED"}


@pytest.mark.parametrize("name", ["", "a\u202egnp.laz", "two\nlines", "x" * 300])
def test_names_in_the_administration_follow_the_rules_for_users(cast: Cast, run: Run, name: str) -> None:
    application, _ = applications.register(
        by=cast.developer, name="viewer", kind=applications.Kind.MACHINE, scopes=["runs:read"]
    )
    root = browser(cast.administrator)
    for model, row, form in (
        ("exports_export", run.export, {"notes": ""}),
        ("access_accesstag", access.create_tag(by=None, name="city"), None),
        ("oauth2_provider_application", application, {}),
    ):
        if form is None:
            answer = root.post(reverse("admin:access_accesstag_add"), {"name": name, "holders": ""})
        else:
            answer = root.post(reverse(f"admin:{model}_change", args=[row.pk]), form | {"name": name})
        assert answer.status_code == 200
        assert "errorlist" in answer.content.decode()
        row.refresh_from_db()
        assert row.name in {"city", "viewer"}


def test_the_page_of_a_run_and_of_an_export_shows_some_rows_at_a_time(cast: Cast, run: Run) -> None:
    file = ExportFile.objects.first()
    assert file is not None
    files = [
        ExportFile(
            export=run.export, name=f"more-{n}.laz", path=f"more/{n}", size=1, sha256="", points=1,
            las_version="1.4", point_format=6, bounds=[], footprint=b"",
        )
        for n in range(2000)
    ]  # fmt: skip
    ExportFile.objects.bulk_create(files)
    root, path = browser(cast.administrator), reverse("admin:exports_export_change", args=[run.export.pk])
    page = root.get(path).content.decode()
    assert "1 to 20 of 2002" in page
    assert len(page) < 60_000
    assert "more-1999.laz" in root.get(f"{path}?files=101").content.decode()
    saved = root.post(path, {"name": "renamed", "notes": "n"}, follow=True)
    assert saved.status_code == 200
    assert Export.objects.get().name == "renamed"
    page = root.get(reverse("admin:runs_run_change", args=[run.pk])).content.decode()
    assert page.count("<td>QUEUED</td>") == 2


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
    assert permissions.is_developer(cast.analyst)
    assert Developer.objects.get(pk=request.pk).decided_by == cast.administrator
    act(cast.administrator, "access_developer", "refuse", request.pk)
    assert not permissions.is_developer(cast.analyst)


def test_users_who_never_asked_are_verified_as_well(cast: Cast) -> None:
    page = act(cast.administrator, "access_user", "verify", cast.analyst.pk, cast.outsider.pk)
    assert "2 verified as developers." in page
    assert permissions.is_developer(cast.analyst)
    act(cast.administrator, "access_user", "refuse", cast.analyst.pk)
    assert not permissions.is_developer(cast.analyst)


def test_developers_who_wait_come_first_with_their_statement(cast: Cast) -> None:
    for name in ("zoe", "adam"):
        access.request_developer(user=access.create_user(by=None, username=name), statement=f"I am {name}")
    access.verify_developer(user=User.objects.get(username="adam"), by=None)
    page = browser(cast.administrator).get(reverse("admin:access_developer_changelist")).content.decode()
    assert page.index("I am zoe") < page.index("I am adam")


def test_a_certificate_is_revoked_by_an_action(cast: Cast) -> None:
    Authority.create_or_load(Path(settings.DATA) / "authority", host=settings.GRIDAPPS.host)
    issued = certificates.issue(user=cast.developer, name="laptop")
    act(cast.administrator, "registry_certificate", "revoke", issued.certificate.pk, confirmed="yes")
    assert Certificate.objects.get().revoked_at is not None


def test_a_refused_release_shows_its_reasons(cast: Cast) -> None:
    app = registry.create_app(by=cast.developer, app_id="roads", title="Roads")
    release = Release.objects.create(
        app=app, digest="sha256:" + "1" * 64, media_type="m", state="refused", size=1, layers=1,
        reasons=["The image has no ENTRYPOINT."], pushed_at=timezone.now(),
    )  # fmt: skip
    page = browser(cast.administrator).get(reverse("admin:registry_release_change", args=[release.pk]))
    assert b"The image has no ENTRYPOINT." in page.content


@pytest.fixture
def release(cast: Cast) -> Release:
    app = registry.create_app(by=cast.developer, app_id="roads", title="Roads")
    return Release.objects.create(
        app=app, digest="sha256:" + "1" * 64, media_type="m", state="valid", size=100, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip


@pytest.fixture
def run(cast: Cast, release: Release) -> Run:
    """A queued run of the developer with two tasks."""
    export = Export.objects.create(owner=cast.developer, name="city")
    for index in range(2):
        ExportFile.objects.create(
            export=export, name=f"{index}.laz", path=f"{index}", size=1, sha256="", points=1,
            las_version="1.4", point_format=6, bounds=[], footprint=b"",
        )  # fmt: skip
    wanted = runs.Request(app="roads", export=export.pk, arguments={"secret": "s3cret"})
    return runs.submit(by=cast.developer, request=wanted)[0]


def test_staff_who_are_no_administrators_have_no_administration(cast: Cast) -> None:
    cast.outsider.is_staff = True
    cast.outsider.save()
    cast.outsider.user_permissions.set(Permission.objects.all())
    for path in (reverse("admin:index"), reverse("admin:runs_run_changelist"), reverse("admin:runs_queue")):
        assert browser(cast.outsider).get(path).status_code == 302
    fields = browser(cast.administrator).get(reverse("admin:access_user_change", args=[cast.analyst.pk]))
    assert not {"user_permissions", "groups", "is_staff"} & set(fields.context["adminform"].form.fields)


@pytest.mark.parametrize("model", ["registry_app", "registry_release"])
def test_apps_and_releases_are_blocked_for_a_reason(cast: Cast, release: Release, model: str) -> None:
    thing = release if model == "registry_release" else release.app
    root = cast.administrator
    assert "One line, which users will read." in act(root, model, "block", thing.pk)
    for reason in ("", " ", "x" * 501, "two\nlines\x07"):
        act(root, model, "block", thing.pk, reason=reason, running="stop")
        thing.refresh_from_db()
        assert thing.blocked_at is None
    assert "1 blocked." in act(root, model, "block", thing.pk, reason="leaks", running="finish")
    thing.refresh_from_db()
    assert (thing.blocked_reason, thing.blocked_by) == ("leaks", root)
    assert "1 unblocked." in act(root, model, "unblock", thing.pk)
    thing.refresh_from_db()
    assert thing.blocked_at is None
    assert [event for event, _ in told()][-2:] == ["block.set", "block.lifted"]


def test_a_block_stops_what_runs_if_chosen(cast: Cast, release: Release, run: Run) -> None:
    mine = queue.claim(node="one", lease=timedelta(seconds=60))
    assert mine is not None
    act(cast.administrator, "registry_release", "block", release.pk, reason="leaks", running="stop")
    run.refresh_from_db()
    assert run.cancel_requested_at is not None
    # The owner reads this, also for the task that was running.
    assert run.cancel_text == "An administrator has blocked this release: leaks"
    assert Task.objects.get(run=run, state=State.CANCELED).reason_text == run.cancel_text
    assert queue.release(claim=mine, reason="platform", text="x") == State.CANCELED
    assert set(run.tasks.values_list("reason_text", flat=True)) == {run.cancel_text}


def test_the_queue_and_the_end_of_a_run(cast: Cast, run: Run) -> None:
    root = browser(cast.administrator)
    assert queue.claim(node="one", lease=timedelta(seconds=60))
    Node.objects.create(
        name="one", slots=2, cpus=2, memory=2, disk=2, version="1", started_at=timezone.now(),
        last_seen_at=timezone.now() - timedelta(minutes=5), session=uuid.uuid4(),
    )  # fmt: skip
    page = root.get(reverse("admin:runs_queue")).content.decode()
    for shown in ("silent", "1 of 2", "developer", "roads", str(run.pk)[:8]):
        assert shown in page
    assert browser(cast.outsider).get(reverse("admin:runs_queue")).status_code == 302
    assert "Cancel the runs" in act(cast.administrator, "runs_run", "cancel", run.pk)
    assert "1 canceled." in act(cast.administrator, "runs_run", "cancel", run.pk, reason="too hot")
    waiting = run.tasks.get(state=State.CANCELED)
    assert waiting.reason_text == "Canceled by an administrator: too hot"
    assert ("run.canceled", f"run:{run.pk}") in told()
    Task.objects.filter(run=run).exclude(pk=waiting.pk).update(
        state="SUCCESS", token=None, lease_until=None, ended_at=timezone.now()
    )
    Run.objects.update(state="CANCELED", ended_at=timezone.now())
    assert "has ended already" in act(cast.administrator, "runs_run", "cancel", run.pk, reason="again")


def test_only_administrators_end_runs_of_others(cast: Cast, run: Run) -> None:
    with pytest.raises(NotAnAdministrator):
        runs.stop(by=cast.developer, run=run, reason="x")


def test_the_arguments_of_a_run_are_not_the_administrators(cast: Cast, run: Run) -> None:
    page = browser(cast.administrator).get(reverse("admin:runs_run_change", args=[run.pk]))
    assert b"0.laz" in page.content
    assert b"s3cret" not in page.content


def test_nodes_drain_and_come_back(cast: Cast) -> None:
    Node.objects.create(
        name="one", slots=2, cpus=2, memory=2, disk=2, version="1", started_at=timezone.now(),
        last_seen_at=timezone.now(), session=uuid.uuid4(), engine_latency=0.1,
    )  # fmt: skip
    for action, draining, said in (("drain", True, "draining"), ("undrain", False, "up")):
        assert f">{said}<" in act(cast.administrator, "runs_node", action, "one")
        assert Node.objects.get().draining is draining
        assert "0 nodes" in act(cast.administrator, "runs_node", action, "one")
    assert told() == [("node.drained", "node:one"), ("node.undrained", "node:one")]
    Node.objects.update(engine_latency=None)
    assert ">engine away<" in act(cast.administrator, "runs_node", "drain", "one")


def test_a_node_shows_the_containers_that_its_engine_holds(cast: Cast) -> None:
    Node.objects.create(
        name="one", slots=2, cpus=2, memory=2, disk=2, version="1", started_at=timezone.now(),
        last_seen_at=timezone.now(), session=uuid.uuid4(), engine_latency=0.1,
        stuck="Since noon: The engine does not remove the container x.",
    )  # fmt: skip
    root = browser(cast.administrator)
    listed = root.get(reverse("admin:runs_node_changelist")).content.decode()
    assert '<td class="field-held">1</td>' in listed
    page = root.get(reverse("admin:runs_node_change", args=["one"])).content.decode()
    assert "does not remove the container x" in page


def test_a_share_is_made_and_shown_with_its_progress(cast: Cast, release: Release) -> None:
    tag = access.create_tag(by=None, name="city")
    root = browser(cast.administrator)
    add = reverse("admin:registry_share_add")
    assert root.get(add).status_code == 200
    form = {"shared_app": "roads", "shared_release": release.digest, "access_tag": tag.pk}
    assert root.post(add, form).status_code == 302
    share = Share.objects.get()
    assert (share.created_by, share.title, share.state) == (cast.administrator, "Roads", "copying")
    Share.objects.update(copied=25)
    assert 'value="0.250"></progress> 25%' in act(cast.administrator, "registry_share", "x", share.pk)
    root.post(add, form)  # the same again
    assert Share.objects.count() == 1
    assert "can no longer run the releases" in act(cast.administrator, "registry_share", "revoke", share.pk)
    assert Share.objects.get().state == "copying", "revoked without a confirmation"
    assert "1 revoked." in act(cast.administrator, "registry_share", "revoke", share.pk, confirmed="yes")
    act(cast.administrator, "registry_release", "block", release.pk, reason="leaks", running="finish")
    assert "The release is blocked: leaks" in unescape(root.post(add, form, follow=True).content.decode())
    assert browser(cast.developer).post(add, form).status_code == 302
    assert Share.objects.count() == 1


def test_holders_change_on_both_pages_and_the_audit_hears_of_it(cast: Cast) -> None:
    tag = access.create_tag(by=None, name="city")
    root = browser(cast.administrator)
    change = reverse("admin:access_accesstag_change", args=[tag.pk])
    both = [cast.analyst, cast.outsider]
    root.post(change, {"name": "renamed", "description": "d", "holders": "analyst\n outsider \n"})
    tag.refresh_from_db()
    assert (tag.name, tag.description, list(tag.holders.order_by("pk"))) == ("city", "d", both)
    unknown = unescape(root.post(change, {"description": "e", "holders": "analyst\nnobody"}).content.decode())
    assert "There are no users with these names: nobody" in unknown
    assert list(tag.holders.order_by("pk")) == both
    root.post(change, {"description": "d", "holders": "analyst"})
    page = reverse("admin:access_user_change", args=[cast.outsider.pk])
    form = {"username": "outsider", "is_active": "on"}
    root.post(page, form | {"access_tags": [tag.pk]})
    assert list(cast.outsider.access_tags.all()) == [tag]
    root.post(page, form)
    assert not cast.outsider.access_tags.exists()
    own = [entry for entry in told() if entry[0].startswith("tag.")]
    assert [event for event, _ in own] == [
        "tag.created", "tag.given", "tag.given", "tag.taken", "tag.given", "tag.taken",
    ]  # fmt: skip
    assert {subject for _, subject in own} == {"tag:city"}


def test_a_tag_is_made_and_removed_only_while_nothing_carries_it(cast: Cast, release: Release) -> None:
    root = browser(cast.administrator)
    add = reverse("admin:access_accesstag_add")
    assert root.post(add, {"name": "city", "description": "", "holders": "analyst"}).status_code == 302
    assert root.post(add, {"name": "City"}).status_code == 200
    tag = AccessTag.objects.get()
    assert ("tag.created", "tag:city") in told()
    sharing.share(by=cast.administrator, app_id="roads", release=release.digest, access_tag="city")
    assert "The access tag city stays" in act(
        cast.administrator, "access_accesstag", "remove", tag.pk, confirmed="yes"
    )
    sharing.revoke(by=cast.administrator, app_id="roads", pk=Share.objects.get().pk)
    assert "The access tag city stays" in act(
        cast.administrator, "access_accesstag", "remove", tag.pk, confirmed="yes"
    )
    assert list(cast.analyst.access_tags.all()) == [tag]
    Share.objects.all().delete()
    assert "1 deleted." in act(cast.administrator, "access_accesstag", "remove", tag.pk, confirmed="yes")
    assert told().count(("tag.deleted", "tag:city")) == 1
    assert root.post(reverse("admin:access_accesstag_delete", args=[tag.pk])).status_code in {302, 403}


def test_the_last_administrator_stays(cast: Cast) -> None:
    root, other = cast.administrator, access.create_user(by=None, username="other", administrator=True)
    act(other, "access_user", "retire", other.pk, confirmed="yes")
    assert User.objects.get(pk=other.pk).is_active
    act(root, "access_user", "retire", other.pk, confirmed="yes")
    assert not User.objects.get(pk=other.pk).is_active
    page = reverse("admin:access_user_change", args=[root.pk])
    for form in ({"is_active": "on"}, {"is_superuser": "on"}, {}):
        answer = browser(root).post(page, {"username": "administrator", **form}, follow=True)
        assert b"is the last administrator" in answer.content
        root.refresh_from_db()
        assert (root.is_active, root.is_superuser, root.is_staff) == (True, True, True)
    with pytest.raises(LastAdministrator):
        access.retire_user(user=root, by=root)
    root.refresh_from_db()
    root.is_superuser = False
    with pytest.raises(LastAdministrator):
        root.save()


def test_one_box_makes_an_administrator(cast: Cast) -> None:
    page = reverse("admin:access_user_change", args=[cast.analyst.pk])
    form = {"username": "analyst", "is_active": "on"}
    browser(cast.administrator).post(page, form | {"is_superuser": "on"})
    assert User.objects.get(pk=cast.analyst.pk).is_staff
    assert browser(cast.analyst).get(reverse("admin:index")).status_code == 200
    browser(cast.administrator).post(page, form)
    assert not User.objects.get(pk=cast.analyst.pk).is_staff


def test_exports_are_deleted_with_a_reason(cast: Cast) -> None:
    export = Export.objects.create(owner=cast.analyst, name="city")
    assert "Delete the exports" in act(cast.administrator, "exports_export", "remove", export.pk)
    page = act(cast.administrator, "exports_export", "remove", export.pk, reason="not licensed")
    assert "1 deleted." in page
    export.refresh_from_db()
    assert export.deleted_at is not None
    assert ("export.deleted", f"export:{export.pk}") in told()
    assert "You have no export" in act(cast.administrator, "exports_export", "remove", export.pk, reason="x")


def test_no_list_can_be_filtered_by_a_field_that_it_does_not_offer(cast: Cast, run: Run) -> None:
    """A filter by a hidden field, such as the arguments of a run, would tell its content."""
    root = browser(cast.administrator)
    accepted = []
    for model, shown in admin.site._registry.items():
        page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        offered = {each[0] if isinstance(each, tuple) else each for each in shown.list_filter}
        for field in model._meta.fields:
            lookups = ["startswith", "contains", "regex", "in"]
            lookups += [] if field.name in offered else ["exact", "isnull", "gte"]
            for lookup in lookups:
                query = f"{field.name}__{lookup}=1"
                if root.get(f"{page}?{query}").status_code != 400:
                    accepted.append(f"{page}?{query}")
    assert accepted == []
    assert run.arguments
    secret = next(iter(run.arguments))
    assert root.get(f"/admin/runs/run/?arguments__{secret}__startswith=a").status_code == 400


def test_links_of_filters_work(cast: Cast, run: Run) -> None:
    root = browser(cast.administrator)
    for model in admin.site._registry:
        page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        answer = root.get(page)
        for filters in answer.context["cl"].get_filters(answer.wsgi_request)[0]:
            for choice in filters.choices(answer.context["cl"]):
                link = f"{page}{choice['query_string']}"
                assert root.get(link).status_code == 200, link


@pytest.mark.parametrize("key", ["\0", "x", "9" * 23, ""])
def test_impossible_keys_of_chosen_rows_are_refused(cast: Cast, key: str) -> None:
    root = browser(cast.administrator)
    for model in ("registry_app", "runs_run", "access_user"):
        chosen = {"action": "delete_selected", "_selected_action": [key]}
        assert root.post(reverse(f"admin:{model}_changelist"), chosen).status_code == 400


def test_a_password_is_changed_on_the_page_of_users_only(cast: Cast) -> None:
    """That page limits and records the tries."""
    root = browser(cast.administrator)
    new = "a-long-enough-secret-9"
    tried = {"old_password": "x", "new_password1": new, "new_password2": new}
    for answer in (root.get("/admin/password_change/"), root.post("/admin/password_change/", tried)):
        assert (answer.status_code, answer["Location"]) == (302, reverse("connect"))
