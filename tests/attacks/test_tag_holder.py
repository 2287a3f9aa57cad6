"""The holder of an access tag runs what was shared with it, and sees nothing else of the App.

tests/instance/test_sharing.py takes tags away, blocks Apps, and deletes the images that were shared.
"""

from typing import Any

from tests.attacks.scene import TAG, Scene
from tests.attacks.tries import assert_held

HUGE = 2**62


def _export(scene: Scene) -> str:
    return str(scene.tom.ask("GET", "/exports").json()["exports"][0]["pk"])


def test_a_holder_sees_nothing_of_an_app_but_what_is_shared(scene: Scene) -> None:
    app, other = scene.app, scene.other_app
    digest = scene.other_release
    rows: list[tuple[str, str, Any]] = [
        ("GET", f"/apps/{app}/releases", None),
        ("GET", f"/apps/{app}/shares", None),
        ("GET", f"/apps/{app}/shares/{scene.share}", None),
        ("GET", f"/apps/{app}/counts", None),
        ("GET", f"/apps/{app}/releases/{scene.release}/attachments/{digest}", None),
        ("PATCH", f"/apps/{app}", {"title": "mine"}),
        ("DELETE", f"/apps/{app}", None),
        ("POST", f"/apps/{app}/shares", {"access_tag": TAG, "release": "v1"}),
        ("DELETE", f"/apps/{app}/shares/{scene.share}", None),
        ("PUT", f"/apps/{app}/block", {"reason": "x"}),
        ("PUT", f"/apps/{app}/releases/{scene.release}/block", {"reason": "x"}),
        ("GET", f"/apps/{other}", None),
        ("GET", f"/apps/{other}/releases", None),
        ("GET", f"/apps/{app},{other}", None),
        ("GET", f"/apps/{app.upper()}", None),
        ("GET", f"/apps/grid%2f{app}", None),
    ]
    with scene.tom.client() as client:

        def got_through(row: tuple[str, str, Any]) -> object:
            method, path, body = row
            answer = client.request(method, f"/api/v3{path}", json=body)
            return answer.status_code not in {403, 404, 405} and (answer.status_code, answer.text)

        assert_held(rows, got_through)
    assert scene.dora.ask("GET", f"/apps/{app}").json()["apps"][0]["title"] == app


def test_a_holder_runs_the_shared_release_and_no_other(scene: Scene) -> None:
    export = _export(scene)
    rows: list[dict[str, Any]] = [
        {"release": "v1"},  # tags are the developer's, who moves them
        {"release": "latest"},
        {"release": scene.other_release},
        {"release": scene.release.upper()},
        {"release": f"{scene.release}0"},
        {"release": f"grid/{scene.app}@{scene.release}"},
        {"release": "sha256:" + "0" * 64},
        {"release": "../" + scene.other_app},
        {"release": ["v1"]},
        {"export": scene.export},
        {"export": [export]},
        {"export": "0"},
        {"exportfile": scene.export},
        {"app": scene.other_app},
        {"owner": scene.ann.name},
        {"image": "busybox"},
        {"command": ["/bin/sh"]},
        {"environment": {"LD_PRELOAD": "/x"}},
        {"resources": {"memory": HUGE}},
        {"resources": {"cpus": 1e9}},
        {"resources": {"cpus": -1}},
        {"resources": {"disk": HUGE}},
        {"resources": {"time": HUGE}},
        {"resources": {"network": True}},
        {"priority": 11},
        {"priority": 1e3},
    ]
    with scene.tom.client() as client:

        def got_through(change: dict[str, Any]) -> object:
            answer = client.post(f"/api/v3/apps/{scene.app}/runs", json={"export": export, **change})
            return answer.status_code not in {400, 403, 404, 409} and (answer.status_code, answer.text)

        assert_held(rows, got_through)


def test_a_holder_has_no_way_into_the_registries(scene: Scene) -> None:
    """An API token opens neither registry, and certificates are issued to developers only."""
    with scene.tom.client() as client:
        for path in (
            f"/v2/{scene.app}/manifests/v1", f"/v2/grid/{scene.app}/manifests/{scene.release}",
            f"/registry/token?scope=repository:{scene.app}:pull",
        ):  # fmt: skip
            assert client.get(path).status_code == 401, path
        for body in ({"name": "x"}, {"name": "x", "user": "dora"}, {"name": "x", "csr": "x"}):
            made = client.post("/api/v3/developer/certificates", json=body)
            assert made.status_code in {400, 403}, made.text
        asked = client.post("/api/v3/developer", json={"statement": "x", "state": "verified"})
        assert asked.status_code == 400
        assert client.post("/api/v3/developer", json={"statement": "x"}).status_code == 201
        assert client.post("/api/v3/developer/certificates", json={"name": "x"}).status_code == 403
