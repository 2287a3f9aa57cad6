"""What an operator sees of a real instance: status, metrics through nginx, logs from request to container."""

import json

import pytest

from tests.instance.conftest import Stage

pytestmark = pytest.mark.system


def lines(stage: Stage, part: str) -> list[dict[str, str]]:
    """The JSON lines of a part's log. Nothing else may stand in it."""
    return [json.loads(line) for line in text_of(stage, part).splitlines()]


def text_of(stage: Stage, part: str) -> str:
    """The log of a part, or of all its processes where it has several."""
    return "".join(file.read_text() for file in sorted((stage.instance.data / "log").glob(f"{part}*.log")))


def test_status_of_an_instance_that_runs(stage: Stage) -> None:
    found = json.loads(stage.instance.run_server_command("status", "--json"))
    assert found["faults"] == []
    assert found["database"] == ""
    assert {"application-1", "application-2", "courier", "nginx", "registry", "worker"} <= found[
        "parts"
    ].keys()
    assert all(found["parts"].values())
    (node,) = found["nodes"]
    assert (node["name"], node["speaks"]) == ("local", True)
    assert node["engine_latency"] > 0
    text = stage.instance.run_server_command("status")
    assert "worker up" in text
    assert "Node      local: " in text


def test_metrics_are_for_administrators(stage: Stage) -> None:
    stage.developer.wait(stage.submit("summary"), "SUCCESS")
    administrator = stage.person("operator", administrator=True)
    token = stage.instance.run_server_command("token", administrator.name, "--scope", "admin").strip()
    with stage.instance.client(token) as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert 'gridapps_node_up{node="local"} 1.0' in answer.text
    with stage.developer.client() as client:
        assert client.get("/metrics").status_code == 403
    with stage.instance.client() as client:
        assert client.get("/metrics").status_code == 401


def test_logs_lead_from_the_request_to_the_task(stage: Stage) -> None:
    ours = "f" * 32
    body = {"export": stage.export, "arguments": {"do": "summary"}}
    answer = stage.developer.ask("POST", f"/apps/{stage.app}/runs", json=body, headers={"X-Request-ID": ours})
    number = answer.headers["X-Request-ID"]
    assert number != ours
    run = answer.json()["runs"][0]["run_id"]
    task = stage.developer.wait(run, "SUCCESS")["tasks"][0]["id"]
    (submitted,) = (line for line in lines(stage, "application") if line.get("run") == run)
    assert submitted["request"] == number
    stage.instance.wait_until(
        lambda: [line for line in lines(stage, "worker") if line.get("run") == run][1:], what="over"
    )
    of_the_worker = [line for line in lines(stage, "worker") if line.get("run") == run]
    assert {(line["task"], line["attempt"], line["node"]) for line in of_the_worker} == {(task, "1", "local")}
    for part in ("application", "worker", "courier", "nginx"):
        text = text_of(stage, part)
        assert text or part != "application"
        assert stage.developer.token not in text
