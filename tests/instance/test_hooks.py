"""Hooks over a real instance: a run with a hook of its own, told of by the courier that `up` started."""

import tempfile
from pathlib import Path

import pytest

from tests.fixtures.instance import MakeInstance
from tests.hooks.receiver import receiving
from tests.instance.conftest import SetStage

pytestmark = pytest.mark.system


def test_a_run_is_told_of(make_instance: MakeInstance, set_stage: SetStage) -> None:
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o711)  # the courier reads the CA
    with receiving(directory) as receiver:
        instance = make_instance(hook_networks="127.0.0.1/32", hook_ca=receiver.ca)
        instance.start()
        stage = set_stage(instance)
        hook = {
            "target": receiver.url(),
            "secret": "a secret of the client",
            "event": "run.started,run.complete",
        }
        body = {"export": stage.export, "arguments": {"do": "summary"}, "hook": hook}
        answer = stage.developer.ask("POST", f"/apps/{stage.app}/runs", json=body)
        run = answer.json()["runs"][0]["run_id"]
        told = [request.told for request in receiver.wait_for(2, seconds=60)]
        assert [(each["event"], each["run"]["state"]) for each in told] == [
            ("run.started", "RUNNING"), ("run.complete", "SUCCESS"),
        ]  # fmt: skip
        assert {each["run"]["id"] for each in told} == {run}
