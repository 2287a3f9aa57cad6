"""Shared Apps over a real instance: a developer who deletes everything, and an administrator who blocks."""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.instance import Instance, MakeInstance
from tests.fixtures.people import ENDED, Person
from tests.instance.conftest import SetStage, Stage

pytestmark = pytest.mark.system


@dataclass
class Sharing:
    """A stage with an administrator, and an analyst who holds the tag and has an export of the same file."""

    stage: Stage
    administrator: Person
    analyst: Person
    tag: str
    export: str

    @property
    def instance(self) -> Instance:
        return self.stage.instance

    def share(self, release: str = "v1", *, app: str = "") -> str:
        """Begin a share; its key."""
        answer = self.administrator.ask(
            "POST", f"/apps/{app or self.stage.app}/shares", expect=202,
            json={"access_tag": self.tag, "release": release},
        )  # fmt: skip
        return str(answer.json()["shares"][0]["pk"])

    def state(self, pk: str) -> str:
        answer = self.administrator.ask("GET", f"/apps/{self.stage.app}/shares/{pk}")
        return str(answer.json()["shares"][0]["state"])

    def wait(self, pk: str, state: str = "active") -> None:
        self.instance.wait_until(lambda: self.state(pk) == state, what=f"share {state}", seconds=30)

    def submit(self, do: str = "summary", **arguments: object) -> str:
        return self.analyst.submit(self.stage.app, self.export, arguments={"do": do, **arguments})


def set_up(stage: Stage) -> Sharing:
    tag = f"tag-{uuid.uuid4().hex[:6]}"
    stage.instance.run_server_command("tag", "create", tag)
    administrator, analyst = stage.person("admin", administrator=True), stage.person("analyst")
    stage.instance.run_server_command("tag", "give", tag, analyst.name)
    export = stage.instance.import_export(stage.file, owner=analyst.name)
    return Sharing(stage, administrator, analyst, tag, export)


def test_what_is_shared_runs_after_its_developer_deleted_everything(
    make_instance: MakeInstance, set_stage: SetStage
) -> None:
    instance = make_instance()
    instance.start()
    sharing = set_up(set_stage(instance))
    stage = sharing.stage
    sharing.analyst.ask("GET", f"/apps/{stage.app}", expect=404)
    sharing.wait(sharing.share())
    shown = sharing.analyst.ask("GET", f"/apps/{stage.app}").json()["apps"][0]
    assert shown["runnable"]
    first = sharing.analyst.wait(sharing.submit(), "SUCCESS")
    assert first["release"] == shown["release"]

    for certificate in stage.developer.ask("GET", "/developer/certificates").json()["certificates"]:
        stage.developer.ask("DELETE", f"/developer/certificates/{certificate['serial']}", expect=204)
    stage.developer.ask("DELETE", f"/apps/{stage.app}", expect=204)
    shutil.rmtree(instance.data / "registry" / "docker")
    os.kill(instance.part("registry"), signal.SIGKILL)  # what it remembers goes as well
    image = f"127.0.0.1:{instance.settings['GRIDAPPS_TRUSTED_PORT']}/grid/{stage.app}@{shown['release']}"
    forget(image)
    again = sharing.analyst.wait(sharing.submit(), "SUCCESS")
    assert again["release"] == shown["release"]
    assert "active" in command(sharing.administrator, "share", "list", stage.app)
    command(sharing.administrator, "block", stage.app, "--reason", "no longer")
    answer = sharing.analyst.ask(
        "POST", f"/apps/{stage.app}/runs", expect=409, json={"export": sharing.export, "arguments": {}}
    )
    assert "no longer" in answer.json()["error"]


@pytest.mark.parametrize("stop", [True, False], ids=["stop", "finish"])
def test_a_bad_release_is_blocked_while_it_runs_on_many_files(
    stage: Stage, set_stage: SetStage, containers_of: Callable[..., list[str]], stop: bool
) -> None:
    instance = stage.instance
    sharing = set_up(set_stage(instance))
    stage, analyst = sharing.stage, sharing.analyst
    files = [stage.file.with_name(f"{number}.laz") for number in range(20)]
    for file in files:
        shutil.copy(stage.file, file)
    export = instance.import_export(*files, owner=analyst.name)
    sharing.wait(sharing.share())
    arguments = {"do": "sleep", "seconds": 60 if stop else 5}
    run = analyst.submit(stage.app, export, arguments=arguments)
    analyst.wait_for_progress(run)
    digest = analyst.show(run)["release"]
    words = ["--release", digest, "--reason", "Wrong heights", *(["--stop"] if stop else [])]
    command(sharing.administrator, "block", stage.app, *words)
    ended = analyst.wait(run, *ENDED)
    assert "An administrator has blocked this release: Wrong heights" in ended["reason_text"]
    assert not containers_of(instance, running=True)
    counts = ended["task_counts"]
    if stop:
        assert counts == {"CANCELED": 20}
    else:
        assert counts.keys() == {"SUCCESS", "FAILURE"}
        assert {task["reason"] for task in ended["tasks"]} == {None, "not-allowed"}
    again = analyst.ask("POST", f"/runs/{run}/retry", expect=409).json()
    assert "Wrong heights" in again["error"]
    events = sharing.administrator.ask("GET", "/audit", params={"subject": f"release:{stage.app}@{digest}"})
    assert "block.set" in [entry["event"] for entry in events.json()["entries"]]
    command(sharing.administrator, "unblock", stage.app, "--release", digest)
    analyst.wait(sharing.submit(), "SUCCESS")


def command(person: Person, *words: str) -> str:
    """What the client's command prints for this person. Fails unless it exits with 0."""
    settings = {"GRIDAPPS_URL": person.instance.url, "GRIDAPPS_TOKEN": person.token}
    paths = {"GRIDAPPS_CA": str(person.instance.ca), "GRIDAPPS_CONFIG": str(person.home / "configuration")}
    done = subprocess.run(
        [Path(sys.executable).with_name("gridapps"), *words], env={**os.environ, **settings, **paths},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def forget(image: str) -> None:
    """Let the engine forget an image, so that the next run has to pull it."""
    import docker

    client = docker.APIClient()
    try:
        client.remove_image(image, force=True)
    finally:
        client.close()
