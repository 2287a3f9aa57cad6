"""`/metrics`: who may read it, its values, and that each metric is documented."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gridapps.api.metrics import collector, views
from gridapps.hooks import operations as hooks
from gridapps.runs import overview, queue, reasons
from gridapps.runs.models import Node, Run, Task
from gridapps.runs.states import State
from tests.api.conftest import Callers
from tests.runs.conftest import make_run, release, shared_with
from tests.runs.test_queue import claim, succeed

__all__ = ["make_run", "release", "shared_with"]
pytestmark = pytest.mark.django_db
DOCUMENTED = Path(__file__).parents[2] / "docs" / "operations.md"
OUR = "gridapps"


def get(token: str = "") -> str:
    answer = ask(token)
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


def ask(token):
    headers = {
        "Host": django_settings.GRIDAPPS.host,
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
    return Client().get("/metrics", secure=True, headers=headers)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Name and label values (in the order of the labels' names) of each sample, and its value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def samples_of(text: str) -> dict[str, float]:
    """Each sample as Prometheus writes it, and its value."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Counters that start now, and do not wait for transactions."""
    monkeypatch.setattr(collector, "SETTLE", timedelta(0))
    views._registry.cache_clear()
    yield
    views._registry.cache_clear()


@pytest.fixture
def token(settings):
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"metrics_token": "of the operator"})
    return "of the operator"


def test_who_may_read(callers: Callers, token: str) -> None:
    assert ask("").status_code == 401
    assert ask("of the operator ").status_code == 200
    assert ask("of the operato").status_code == 401
    assert ask(callers.administrator.token).status_code == 200
    for caller in (callers.developer, callers.analyst, callers.outsider):
        assert ask(caller.token).status_code == 403


def test_no_token_is_set_by_default(callers: Callers) -> None:
    assert ask("").status_code == 401
    assert ask("''").status_code == 401
    assert ask(callers.administrator.token).status_code == 200


def test_the_queue_by_class_of_user(token, cast, make_run):
    make_run(owner="analyst", points=(1, 2), age=100)
    make_run(owner="developer", age=5000)
    make_run(owner="administrator", age=7)
    found = samples(get(token))
    depth = {name: found["gridapps_queue_tasks", name] for name in ("user", "developer", "administrator")}
    assert depth == {"user": 2, "developer": 1, "administrator": 1}
    ages = [found["gridapps_queue_oldest_seconds", name] for name in ("user", "developer", "administrator")]
    assert ages == pytest.approx([100, 5000, 7], abs=5)
    assert found["gridapps_tasks", "QUEUED"] == 4
    assert not any("analyst" in label for name, *labels in found for label in labels)


def test_what_ended_is_counted_from_the_first_answer_on(token, make_run):
    make_run()
    succeed(claim())
    before = {key: value for key, value in samples(get(token)).items() if "_ended_total" in key[0]}
    assert set(before.values()) == {0}
    assert {key[0] for key in before} == {
        "gridapps_runs_ended_total", "gridapps_attempts_ended_total", "gridapps_hook_deliveries_ended_total",
    }  # fmt: skip
    make_run(), make_run()
    succeed(claim())
    queue.finish(claim=claim(), state=State.FAILURE, reason="out-of-memory", text="It took too much.")
    for _ in range(2):  # reading changes nothing
        found = samples(get(token))
        assert found["gridapps_runs_ended_total", "none", "SUCCESS"] == 1
        assert found["gridapps_runs_ended_total", "out-of-memory", "FAILURE"] == 1
        assert found["gridapps_attempts_ended_total", "out-of-memory"] == 1


def test_every_process_says_the_same(token, make_run):
    get(token)
    for expected in (1, 2):
        make_run()
        succeed(claim())
        for _ in range(2):
            views._registry.cache_clear()  # as another process, or the same one after a restart
            assert samples(get(token))["gridapps_runs_ended_total", "none", "SUCCESS"] == expected


def test_every_reason_in_the_source_is_known():
    written = set()
    for path in (DOCUMENTED.parents[1] / "src" / "gridapps" / "runs").glob("*.py"):
        text = path.read_text()
        written |= set(re.findall(r'(?:_EndedEarly\(State\.\w+, |_GivenBack\(|\breason=)"([\w-]+)"', text))
    assert written - {"blocked"} <= set(reasons.OF_ATTEMPTS)
    assert "platform" in written


def test_nodes_and_what_they_do(token, make_run):
    Node.objects.create(
        name="one", slots=4, cpus=4, memory=10**9, disk=10**10, version="1", started_at=timezone.now(),
        last_seen_at=timezone.now() - timedelta(seconds=30), stuck="a\nb", engine_latency=0.25,
    )  # fmt: skip
    make_run(points=(1, 1, 1))
    claim(), claim()
    found = samples(get(token))
    of_one = {key[0]: value for key, value in found.items() if key[1:] == ("one",)}
    assert of_one["gridapps_node_running_tasks"] == 2
    assert of_one["gridapps_node_used_cpus"] == 2
    assert of_one["gridapps_node_used_disk_bytes"] == 2 * 10**6
    assert of_one["gridapps_node_memory_bytes"] == 10**9
    assert of_one["gridapps_node_stuck_containers"] == 2
    assert of_one["gridapps_node_engine_seconds"] == 0.25
    assert of_one["gridapps_node_up"] == 0
    assert of_one["gridapps_node_silent_seconds"] == pytest.approx(30, abs=5)
    Node.objects.update(engine_latency=None)
    assert ("gridapps_node_engine_seconds", "one") not in samples(get(token))


def test_hooks_that_wait(token, cast, make_run):
    hooks.create(by=cast.analyst, target="https://example.org/", events=["run.complete"])
    make_run()
    succeed(claim())
    assert samples(get(token))["gridapps_hook_deliveries",] == 1


def test_the_history_costs_nothing(token, make_run, django_assert_num_queries):
    make_run()
    get(token)
    with CaptureQueriesContext(connection) as few:
        get(token)
    make_run(points=(1,) * 30)
    with django_assert_num_queries(len(few)):
        get(token)
    assert Run._meta.get_field("ended_at").null
    indexed = {tuple(index.fields) for model in (Run, Task) for index in model._meta.indexes}
    assert ("ended_at",) in indexed


def test_every_metric_is_documented(db):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector.Instance())
    told = {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in registry.collect()
        if family.name.startswith(OUR)
    }
    documented = set(re.findall(r"^\| `(gridapps_\w+)` \|", DOCUMENTED.read_text(), re.M))
    assert told == documented


def test_a_database_that_is_away_is_an_answer(token, monkeypatch):
    from django.db import OperationalError

    def away():
        raise OperationalError("no")

    get(token)
    monkeypatch.setattr(overview, "nodes", away)
    answer = ask(token)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
