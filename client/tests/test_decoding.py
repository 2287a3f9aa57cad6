"""An answer that does not fit raises an error with a sentence."""

from typing import Any

import pytest
from gridapps_client import BadAnswer
from gridapps_client.decoding import decode, member
from gridapps_client.models import App, Export, Resources

RESOURCES = {"cpus": 1, "memory": 2, "disk": 3, "time": 4}


def test_nested() -> None:
    file = {
        "pk": "7",
        "name": "a.laz",
        "filesize": 1,
        "sha256": "",
        "points": 5,
        "las_version": "1.4",
        "point_format": 6,
        "bounds": [0, 0.5, 1, 1, 2, 3],
        "crs": "",
        "geom": "",
    }
    given = {
        "pk": "1",
        "name": "n",
        "user": "u",
        "created_at": "2026-01-02T03:04:05.678901Z",
        "notes": "",
        "exportfiles": [file],
        "new": 1,
    }
    export = decode(Export, given)
    assert export.exportfiles[0].bounds == [0.0, 0.5, 1.0, 1.0, 2.0, 3.0]


def test_whole_numbers_pass_for_numbers() -> None:
    assert decode(Resources, RESOURCES).cpus == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"title": None}, "apps.title should be str"),
        ({"title": 3}, "apps.title should be str"),
        ({"runnable": 1}, "apps.runnable should be bool"),
        ({"resources": RESOURCES | {"memory": True}}, "apps.resources.memory should be int"),
        ({"resources": []}, "apps.resources should be dict"),
        ({"arguments": "x"}, "apps.arguments should be dict"),
    ],
)
def test_misfits_are_named(change: dict[str, Any], named: str) -> None:
    texts = dict.fromkeys(("id", "title", "description", "owner", "repository"), "x")
    texts |= dict.fromkeys(("created_at", "updated_at"), "2026-01-02T03:04:05Z")
    sound = {**texts, "arguments": {}, "resources": RESOURCES, "runnable": True, "release": None}
    assert decode(App, sound, where="apps").release is None
    with pytest.raises(BadAnswer, match=named):
        decode(App, sound | change, where="apps")


def test_missing() -> None:
    with pytest.raises(BadAnswer, match="an object with 'time'"):
        decode(Resources, {name: value for name, value in RESOURCES.items() if name != "time"})
    answers: list[Any] = [None, [], "x", {}]
    for answer in answers:
        with pytest.raises(BadAnswer, match="an object with 'apps'"):
            member(answer, "apps")
