"""The registry's door and its tokens say the same of another's App, of a deleted one, and of none."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gridapps.registry import operations
from gridapps.registry.models import App
from tests.api.silence import listen
from tests.fixtures.cast import Cast
from tests.registry.built import digest
from tests.registry.conftest import Developer

BLOB = digest(b"blob")
UPLOAD = "5f8b2a5e-7d1c-4e3b-9f57-0e2b8b3f9a11"
ASKED: dict[str, Callable[[Developer, str], Any]] = {
    "pull": lambda who, name: who.authorize("GET", f"/v2/{name}/manifests/v1"),
    "look": lambda who, name: who.authorize("HEAD", f"/v2/{name}/blobs/{BLOB}"),
    "tags": lambda who, name: who.authorize("GET", f"/v2/{name}/tags/list"),
    "push": lambda who, name: who.authorize("POST", f"/v2/{name}/blobs/uploads/"),
    "session": lambda who, name: who.authorize("PATCH", f"/v2/{name}/blobs/uploads/{UPLOAD}?_state=a"),
    "mount": lambda who, name: who.authorize(
        "POST", f"/v2/{who.name}/blobs/uploads/?mount={BLOB}&from={name}"
    ),
    "shared": lambda who, name: who.authorize("GET", f"/v2/grid/{name}/manifests/{BLOB}"),
    "manifest": lambda who, name: who.ask("PUT", f"/v2/{name}/manifests/v1", b"{}", media_type="a/b"),
    "token": lambda who, name: who.ask("GET", f"/registry/token?scope=repository:{name}:pull,push"),
}


@pytest.mark.parametrize("kind", ASKED)
def test_the_door_answers_as_for_nothing(developer: Developer, cast: Cast, kind: str) -> None:
    for name, owner in (("foreign", cast.analyst), ("deleted", cast.developer)):
        fields = {"title": "x", "arguments": {}, "cpus": 1, "memory": 1, "disk": 1, "time": 1}
        App.objects.create(app_id=name, owner=owner, **fields)
    operations.delete_app(by=cast.developer, app_id="deleted")
    ask = partial(ASKED[kind], developer)
    ask("warming")  # the audit counts what it heard before
    foreign, deleted, nothing = (
        listen(partial(ask, name), {name: "name"}) for name in ("foreign", "deleted", "nothing")
    )
    assert nothing.status == 401
    assert foreign == nothing
    assert deleted == nothing
