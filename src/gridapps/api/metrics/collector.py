"""Asks the database when Prometheus does. Labels are few and known: never the name of a user or of an App.

What has ended is counted by this process from its first answer on: each time, what ended since the time
before. Prometheus takes a restart for what it is. What ended within the last seconds is left for the next
time, because its transaction may not have committed yet.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.metadata import version

from django.db.models import Count, Model, QuerySet
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gridapps.hooks.models import Delivery
from gridapps.registry import disk
from gridapps.registry.models import Release
from gridapps.registry.tokens import Service
from gridapps.runs import overview
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
}


class Instance(Collector):
    """Every metric of the instance. Give it to one registry."""

    def __init__(self) -> None:
        start = overview.now()
        self._guard = threading.Lock()
        self._runs = _Ended(Run.objects.all(), "ended_at", ("state", "reason"), start)
        self._attempts = _Ended(Attempt.objects.all(), "ended_at", ("reason",), start)
        self._deliveries = _Ended(Delivery.objects.all(), "settled_at", ("state",), start)

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("gridapps", "The instance's program.", value={"version": version("gridapps")})
        yield from _tasks()
        yield from _nodes(overview.nodes())
        yield from _waiting_deliveries()
        yield _releases()
        yield _images()
        with self._guard:
            yield self._runs.metric("gridapps_runs_ended", "Runs that ended.")
            yield self._attempts.metric("gridapps_attempts_ended", "Attempts at tasks that ended.")
            yield self._deliveries.metric("gridapps_hook_deliveries_ended", "Deliveries of hooks that ended.")


class _Ended:
    """Counts rows once they have ended."""

    def __init__(
        self, rows: "QuerySet[Model]", ended_at: str, labels: tuple[str, ...], start: datetime
    ) -> None:
        self._rows = rows
        self._ended_at = ended_at
        self._labels = labels
        self._until = start
        self._totals: Counter[tuple[str, ...]] = Counter()

    def metric(self, name: str, text: str) -> CounterMetricFamily:
        until = max(overview.now() - SETTLE, self._until)
        span = {f"{self._ended_at}__gt": self._until, f"{self._ended_at}__lte": until}
        counted = self._rows.filter(**span).order_by().values_list(*self._labels).annotate(n=Count("pk"))
        for *values, count in counted:
            self._totals[tuple(values)] += count
        self._until = until
        family = CounterMetricFamily(name, text, labels=self._labels)
        for known, total in self._totals.items():
            family.add_metric([value or "none" for value in known], total)
        return family


def registry() -> CollectorRegistry:
    """A registry with the instance's metrics and those of this process."""
    made = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=made)
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
    }


def _waiting_deliveries() -> Iterator[Metric]:
    waiting = overview.hooks()
    yield GaugeMetricFamily("gridapps_hook_deliveries", "Deliveries of hooks that wait.", value=waiting.count)
    yield GaugeMetricFamily(
        "gridapps_hook_deliveries_oldest_seconds", "Age of the oldest of them.", value=waiting.oldest
    )


def _images() -> Metric:
    family = GaugeMetricFamily("gridapps_images_bytes", "Disk of the images.", labels=["registry"])
    for service, there in ((Service.DEVELOPER, disk.developers()), (Service.TRUSTED, disk.trusted())):
        family.add_metric([disk.STORAGE[service]], there.total())
    return family


def _releases() -> Metric:
    family = GaugeMetricFamily("gridapps_releases", "Pushed images, by verdict.", labels=["state"])
    for state, count in Release.objects.order_by().values_list("state").annotate(n=Count("pk")):
        family.add_metric([state], count)
    return family
