"""The audit of a running instance: what people did through the one port, and a table that stays as it is."""

import json
import sqlite3
import ssl
from typing import Any

import httpx
import pytest

from tests.instance.conftest import Stage
from tests.registry.places import new_place

pytestmark = pytest.mark.system


def told(stage: Stage, **wanted: str) -> list[dict[str, Any]]:
    """The entries that an administrator reads over the API."""
    administrator = stage.person("admin", administrator=True)
    entries: list[dict[str, Any]] = administrator.ask("GET", "/audit", params=wanted).json()["entries"]
    return entries


def test_a_push_a_run_and_a_download_are_told_of(stage: Stage) -> None:
    run = stage.developer.wait(stage.submit("summary"), "SUCCESS")
    for _ in range(2):
        stage.developer.output(run["id"], "0/stdout.txt")
    of_the_run = told(stage, subject=f"run:{run['id']}")
    assert [entry["event"] for entry in of_the_run] == ["run.submitted", "outputs.downloaded"]
    assert of_the_run[0]["details"]["release"] == f"{stage.app}@{run['release']}"
    (pushed,) = told(stage, subject=f"release:{stage.app}@{run['release']}")
    assert (pushed["event"], pushed["details"]["tag"]) == ("release.pushed", "v1")
    for entry in (*of_the_run, pushed):
        assert entry["actor"] == pushed["actor"]
        assert entry["address"] in ("127.0.0.1", "::1")
        assert len(entry["request"]) == 32


def test_who_was_refused_in_the_registry_is_told_of_once(stage: Stage) -> None:
    place = new_place(stage.instance)
    directory, serial = place.issue()
    secure = ssl.create_default_context(cafile=str(stage.instance.ca))
    secure.load_cert_chain(directory / "client.cert", directory / "client.key")
    with httpx.Client(base_url=stage.instance.url, verify=secure, trust_env=False) as client:
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Request-ID": "f" * 32}
        for _ in range(3):
            assert client.get(f"/v2/{stage.app}/tags/list?_state=secret", headers=forged).status_code == 401
        place.developer.ask("DELETE", f"/developer/certificates/{serial}", expect=204)
        assert client.get(f"/v2/{place.app}/tags/list").status_code == 401
    first, second = told(stage, subject=f"certificate:{serial}", event="refused")
    assert f"has no App '{stage.app}'" in first["details"]["sentence"]
    assert first["details"]["asked"] == f"/v2/{stage.app}/tags/list"
    assert "was revoked on" in second["details"]["sentence"]
    assert first["address"] in ("127.0.0.1", "::1")
    assert first["request"] != "f" * 32


def test_the_command_prints_lines_and_the_table_is_closed(stage: Stage) -> None:
    lines = stage.instance.run_server_command("audit", "--since", "2020-01-01").splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["id"] for entry in entries] == sorted(entry["id"] for entry in entries)
    assert {"user.created", "developer.verified"} <= {entry["event"] for entry in entries}
    assert stage.instance.run_server_command("audit", "--until", "2020-01-01") == ""
    rows = sqlite3.connect(stage.instance.data / "database" / "gridapps.sqlite3")
    for statement in ("DELETE FROM audit_entry", "UPDATE audit_entry SET actor = 'nobody'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            rows.execute(statement)
    rows.close()
