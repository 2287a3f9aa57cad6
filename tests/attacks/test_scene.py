"""The scene on which all attacks rely. An attack that finds nothing to attack would prove nothing."""

from tests.attacks.scene import Scene
from tests.attacks.wire import request


def test_everybody_has_what_the_table_says(scene: Scene) -> None:
    assert scene.ann.show(scene.run)["state"] == "SUCCESS"
    outputs = scene.ann.ask("GET", f"/runs/{scene.run}/outputs").json()["outputs"]
    assert outputs
    assert scene.ann.log(scene.run)
    apps = {"dora": scene.app, "ann": scene.app, "tom": scene.app, "erik": scene.other_app}
    for person, app in apps.items():
        scene.people[person].ask("GET", f"/apps/{app}", expect=200)
    scene.otto.ask("GET", f"/apps/{scene.app}", expect=404)
    scene.dora.ask("GET", f"/apps/{scene.other_app}", expect=404)


def test_a_session_is_one(scene: Scene) -> None:
    with scene.ann.browser() as browser:
        assert browser.get(f"/runs/{scene.run}").status_code == 200


def test_the_wire_speaks_http(scene: Scene) -> None:
    first, second = scene.wire().exchange(
        b"GET /api/v3/me HTTP/1.1\r\nHost: localhost\r\n\r\n" + request("/login")
    )
    assert (first.status, second.status) == (401, 200)
    own = scene.wire("dora").exchange(request(f"/v2/{scene.app}/tags/list"))
    assert [answer.status for answer in own] == [200]
    assert b"v1" in own[0].body
