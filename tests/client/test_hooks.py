"""`gridapps hook` against a real instance: created, tested by the courier, deleted."""

import pytest

from tests.client.conftest import new_shell
from tests.fixtures.instance import Instance

pytestmark = pytest.mark.system


def test_a_hook_from_creation_to_deletion(instance: Instance) -> None:
    shell = new_shell(instance, "teller")
    shell.login()
    made = shell.must("hook", "create", "https://hook.invalid/x", "--json").json
    (hook,) = made["hooks"]
    assert (hook["event"], hook["target"]) == ("run.complete", "https://hook.invalid/x")
    assert len(made["secret"]) >= 40
    assert "https://hook.invalid/x" in shell.must("hook", "list").out
    shell.must("hook", "test", hook["pk"])

    def settled() -> bool:
        (told,) = shell.must("hook", "deliveries", hook["pk"], "--json").json["deliveries"]
        return bool(told["state"] == "failed" and told["error"])

    instance.wait_until(settled, what="tried by the courier")
    assert "hook.test" in shell.must("hook", "deliveries", hook["pk"]).out
    refused = shell.run("hook", "create", "https://10.0.0.1/")
    assert refused.status == 1
    assert "target" in refused.err
    shell.must("hook", "delete", hook["pk"])
    assert shell.must("hook", "list", "--json").json == {"hooks": []}
