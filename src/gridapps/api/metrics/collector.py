"""Reads the metrics from the database at each scrape. Labels never name a user or an App.

Counters are rows that every application process adds to (`runs.tallies`). Each possible combination of labels
starts at 0, because Prometheus ignores the first increase of a series that starts at 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

from django.conf import settings
from django.db.models import Count, Model, QuerySet
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gridapps.hooks.models import Delivery
from gridapps.pki.tokens import Registry
from gridapps.processes import part_states
from gridapps.pushes import disk
from gridapps.registry.models import Release
from gridapps.runs import node_disk, overview, reasons, tallies
from gridapps.runs.models import Attempt, Run, Task
from gridapps.runs.overview import NodeLoad
from gridapps.runs.states import State

SETTLE = timedelta(seconds=10)
_OF_A_NODE = {
    "slots": "Tasks at once.",
    "cpus": "Processors for tasks.",
    "memory_bytes": "Memory for tasks.",
    "disk_bytes": "Disk for the outputs of running tasks.",
    "running_tasks": "Tasks that run.",
    "used_cpus": "Processors that running tasks asked for.",
    "used_memory_bytes": "Memory that running tasks asked for.",
    "used_disk_bytes": "Disk that running tasks asked for.",
    "silent_seconds": "Since the worker reported last.",
    "up": "1 while a worker speaks for the node, 0 after it stopped in order.",
    "draining": "1 while it claims no more tasks.",
    "engine_seconds": "What the engine took to answer; absent when it did not.",
    "stuck_containers": "Containers that the engine cannot remove.",
    "free_disk_bytes": "Free disk where tasks and outputs are written; absent until it is reported.",
    "min_free_disk_bytes": "Free disk below which it claims no tasks; 0: none.",
}


class Instance(Collector):
    """All metrics of the instance. Register it once."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("gridapps", "The instance's program.", value={"version": version("gridapps")})
        yield from _tasks()
        yield from _nodes(overview.nodes())
        yield from _parts()
        yield from _waiting_deliveries()
        yield from _free_disk()
        yield _releases()
        yield _images()
        yield from _ended()


def _ended() -> Iterator[Metric]:
    yield _counter(
        "gridapps_runs_ended",
        "Runs that ended.",
        _Rows(Run.objects.all(), "ended_at", ("state", "reason"), reasons.OF_RUNS),
    )
    yield _counter(
        "gridapps_attempts_ended",
        "Attempts at tasks that ended.",
        _Rows(Attempt.objects.all(), "ended_at", ("reason",), [(reason,) for reason in reasons.OF_ATTEMPTS]),
    )
    yield _counter(
        "gridapps_hook_deliveries_ended",
        "Deliveries of hooks that ended.",
        _Rows(
            Delivery.objects.all(),
            "settled_at",
            ("state",),
            [(Delivery.State.DELIVERED,), (Delivery.State.FAILED,)],
        ),
    )


@dataclass(frozen=True)
class _Rows:
    """Rows that end, the fields that are labels, and every possible combination of their values."""

    rows: "QuerySet[Model]"
    ended_at: str
    labels: tuple[str, ...]
    known: Sequence[tuple[str, ...]]


def _counter(name: str, text: str, of: _Rows) -> CounterMetricFamily:
    totals = tallies.update(name, of.rows, ended_at=of.ended_at, labels=of.labels, settle=SETTLE)
    family = CounterMetricFamily(name, text, labels=of.labels)
    for values, total in {**dict.fromkeys(of.known, 0), **totals}.items():
        family.add_metric([value or "none" for value in values], total)
    return family


def registry() -> CollectorRegistry:
    """A registry with the metrics of the instance, and none of this process, which is one of several."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Instance())
    return made


def _tasks() -> Iterator[Metric]:
    waiting = overview.queue()
    depth = GaugeMetricFamily("gridapps_queue_tasks", "Tasks that wait, by class.", labels=["user_class"])
    age = GaugeMetricFamily(
        "gridapps_queue_oldest_seconds", "Age of the oldest task that waits.", labels=["user_class"]
    )
    for name, found in waiting.items():
        depth.add_metric([name], found.count)
        age.add_metric([name], found.oldest)
    yield depth
    yield age
    states = GaugeMetricFamily("gridapps_tasks", "Tasks that have not ended.", labels=["state"])
    states.add_metric([State.QUEUED], sum(found.count for found in waiting.values()))
    states.add_metric([State.RUNNING], Task.objects.filter(state=State.RUNNING).count())
    yield states


def _nodes(loads: list[NodeLoad]) -> Iterator[Metric]:
    for name, text in _OF_A_NODE.items():
        family = GaugeMetricFamily(f"gridapps_node_{name}", text, labels=["node"])
        for load in loads:
            value = _of(load)[name]
            if value is not None:
                family.add_metric([load.name], value)
        yield family


def _of(load: NodeLoad) -> dict[str, float | None]:
    return {
        "slots": load.slots,
        "cpus": load.cpus,
        "memory_bytes": load.memory,
        "disk_bytes": load.disk,
        "running_tasks": load.running,
        "used_cpus": load.used_cpus,
        "used_memory_bytes": load.used_memory,
        "used_disk_bytes": load.used_disk,
        "silent_seconds": load.silent,
        "up": load.speaks,
        "draining": load.draining,
        "engine_seconds": load.engine_latency,
        "stuck_containers": len(load.stuck),
        "free_disk_bytes": load.free_disk,
        "min_free_disk_bytes": load.min_free_disk,
    }


def _parts() -> Iterator[Metric]:
    restarts = CounterMetricFamily(
        "gridapps_part_restarts", "Restarts of a part that ended or hung.", labels=["part"]
    )
    silent = GaugeMetricFamily("gridapps_part_silent", "1 while a part does not answer.", labels=["part"])
    for name, state in part_states.read(settings.DATA).items():
        restarts.add_metric([name], state.restarts)
        silent.add_metric([name], state.silent_since is not None)
    yield restarts
    yield silent


def _waiting_deliveries() -> Iterator[Metric]:
    waiting = overview.hooks()
    yield GaugeMetricFamily("gridapps_hook_deliveries", "Deliveries of hooks that wait.", value=waiting.count)
    yield GaugeMetricFamily(
        "gridapps_hook_deliveries_oldest_seconds", "Age of the oldest of them.", value=waiting.oldest
    )


def _free_disk() -> Iterator[Metric]:
    found = node_disk.free()
    yield GaugeMetricFamily(
        "gridapps_free_disk_bytes", "Free disk of the first machine's data or outputs.", value=found.free
    )
    yield GaugeMetricFamily(
        "gridapps_min_free_disk_bytes",
        "Free disk below which pushes, imports and new tasks are refused; 0: none.",
        value=found.floor,
    )


def _images() -> Metric:
    family = GaugeMetricFamily("gridapps_images_bytes", "Disk of the images.", labels=["registry"])
    for service, there in ((Registry.DEVELOPER, disk.developers()), (Registry.TRUSTED, disk.trusted())):
        family.add_metric([disk.STORAGE[service]], there.total())
    return family


def _releases() -> Metric:
    family = GaugeMetricFamily("gridapps_releases", "Pushed images, by verdict.", labels=["state"])
    counts = dict(Release.objects.order_by().values_list("state").annotate(n=Count("pk")))
    for state in Release.State.values:
        family.add_metric([state], counts.get(state, 0))
    return family
