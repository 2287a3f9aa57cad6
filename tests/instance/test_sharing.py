"""Shared Apps over a real instance: a developer who deletes everything, and an administrator who blocks."""

import os
import shutil
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.instance import Instance, MakeInstance
from tests.fixtures.people import Person
from tests.instance.conftest import SetStage, Stage

pytestmark = [pytest.mark.engine, pytest.mark.instance]


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
