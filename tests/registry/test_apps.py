"""Apps: who creates, sees, changes and deletes them."""

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from gridapps.access.errors import NotADeveloper
from gridapps.arguments.schemas import InvalidSchema
from gridapps.registry import operations, queries
from gridapps.registry.errors import AppChanged, AppIdTaken, AppNotFound, InvalidApp
from gridapps.registry.models import App
from tests.fixtures.cast import Cast

pytestmark = pytest.mark.django_db


def make(cast: Cast, **other: Any) -> App:
    arguments: dict[str, Any] = {"by": cast.developer, "app_id": "roads", "title": "Roads"}
    return operations.create_app(**arguments | other)


def test_an_app_has_defaults_within_the_limits(cast: Cast) -> None:
    app = make(cast)
    assert (app.cpus, app.time, app.arguments) == (1, 3600, {"type": "object"})


def test_an_older_schema_is_stored_as_it_is_used(cast: Cast) -> None:
    """At the creation and at a change, also when a process checks it because it is long."""
    declared = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
    app = make(cast, arguments={**declared, "properties": {"a": {"items": [{"type": "integer"}]}}})
    assert app.arguments["properties"]["a"] == {"prefixItems": [{"type": "integer"}]}
    long = {**declared, "description": "x" * 5000, "dependencies": {"a": ["b"]}}
    app = operations.update_app(by=cast.developer, app_id="roads", changes={"arguments": long})
    assert app.arguments["dependentRequired"] == {"a": ["b"]}
    assert app.arguments["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_only_verified_developers_create_apps(cast: Cast) -> None:
    for user in (cast.analyst, cast.administrator):
        with pytest.raises(NotADeveloper):
            make(cast, by=user)


@pytest.mark.parametrize("app_id", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a" * 64, "a\n", "ä"])
def test_bad_app_ids_are_refused(cast: Cast, app_id: str) -> None:
    with pytest.raises(InvalidApp) as raised:
        make(cast, app_id=app_id)
    assert raised.value.fields[0][0] == "/id"


@pytest.mark.parametrize("app_id", ["manifests", "blobs", "grid", "v2", "token", "admin", "api", "new"])
def test_reserved_app_ids_are_refused_with_the_reason(cast: Cast, app_id: str) -> None:
    with pytest.raises(InvalidApp) as raised:
        make(cast, app_id=app_id)
    ((place, sentence),) = raised.value.fields
    assert place == "/id"
    assert "use this word" in sentence
    assert not App.objects.exists()


def test_the_database_itself_refuses_bad_app_ids(cast: Cast) -> None:
    app = make(cast)
    with pytest.raises(IntegrityError), transaction.atomic():
        App.objects.filter(pk=app.pk).update(app_id="No Slug")


@pytest.mark.parametrize(
    "resources",
    [
        *({"cpus": 0}, {"cpus": float("nan")}, {"memory": 2**70}, {"time": -1}, {"disk": 10**18}),
        *({"cpus": 1e-12}, {"cpus": 0.0049}, {"memory": 1}, {"memory": 10}, {"disk": 1}, {"time": 0.5}),
    ],
)
def test_resources_out_of_bounds_are_refused(cast: Cast, resources: dict[str, float]) -> None:
    with pytest.raises(InvalidApp) as raised:
        make(cast, resources=resources)
    ((where, why),) = raised.value.fields
    assert [where] == [f"/resources/{name}" for name in resources]
    assert why.startswith("From ")
    assert any(unit in why for unit in ("processors", "MiB", " s to"))


@pytest.mark.parametrize("title", ["", "  ", "a\nb", "x" * 201])
def test_bad_titles_are_refused(cast: Cast, title: str) -> None:
    with pytest.raises(InvalidApp):
        make(cast, title=title)


def test_an_app_id_is_taken_for_good(cast: Cast) -> None:
    make(cast)
    with pytest.raises(AppIdTaken):
        make(cast)
    operations.delete_app(by=cast.developer, app_id="roads")
    with pytest.raises(AppIdTaken):
        make(cast)


def test_owner_and_administrator_see_an_app_and_nobody_else_does(cast: Cast) -> None:
    app = make(cast)
    assert list(queries.visible_to(cast.developer)) == [app]
    assert list(queries.visible_to(cast.administrator)) == [app]
    for user in (cast.analyst, cast.outsider):
        assert not queries.visible_to(user).exists()
        with pytest.raises(AppNotFound):
            queries.releases_visible_to(user, app)
    assert not queries.runnable_by(cast.administrator).exists()


def test_a_deleted_app_is_gone_for_everybody(cast: Cast) -> None:
    make(cast)
    operations.delete_app(by=cast.developer, app_id="roads")
    for user in (cast.developer, cast.administrator):
        assert not queries.visible_to(user).exists()
    with pytest.raises(AppNotFound):
        operations.delete_app(by=cast.developer, app_id="roads")


def test_only_the_owner_changes_an_app(cast: Cast) -> None:
    make(cast)
    for user in (cast.analyst, cast.administrator):
        with pytest.raises(AppNotFound):
            operations.update_app(by=user, app_id="roads", changes={"title": "Mine"})
        with pytest.raises(AppNotFound):
            operations.delete_app(by=user, app_id="roads")


def test_a_change_keeps_what_it_does_not_name_and_makes_a_new_version(cast: Cast) -> None:
    app = make(cast, resources={"time": 60})
    seen = operations.version(app)
    changed = operations.update_app(
        by=cast.developer, app_id="roads", expected=seen, changes={"resources": {"cpus": 0.5}}
    )
    assert (changed.title, changed.cpus, changed.time) == ("Roads", 0.5, 60)
    with pytest.raises(AppChanged):
        operations.update_app(by=cast.developer, app_id="roads", expected=seen, changes={"title": "Late"})


def test_a_bad_schema_changes_nothing(cast: Cast) -> None:
    make(cast)
    with pytest.raises(InvalidSchema):
        operations.update_app(
            by=cast.developer, app_id="roads", changes={"title": "New", "arguments": {"type": "array"}}
        )
    assert App.objects.get().title == "Roads"
