"""How often an App was run. Its developer learns nothing else of other users' runs.

Counts include whole days only, up to the last midnight (UTC). So frequent requests reveal no more than one a
day, and they do not reveal at what time of day a user works. Ended runs never change, so a result holds until
the next midnight.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from django.db.models import BooleanField, Case, Count, Value, When
from django.utils import timezone

from gridapps.registry.models import App, Release
from gridapps.runs.models import Run, Task
from gridapps.runs.states import TERMINAL, State

RECENT = timedelta(days=30)


def _nothing() -> dict[State, int]:
    return {state: 0 for state in State if state in TERMINAL}


@dataclass
class RunCount:
    """How many runs, and how many of their tasks, ended in each state."""

    runs: dict[State, int] = field(default_factory=_nothing)
    tasks: dict[State, int] = field(default_factory=_nothing)


@dataclass
class ReleaseCounts:
    """The runs of one release: those of the App's owner, and those of all others."""

    release: str
    own: RunCount = field(default_factory=RunCount)
    others: RunCount = field(default_factory=RunCount)


@dataclass(frozen=True)
class AppCounts:
    """Runs that ended before `until`: all of them, and those since `since`. Releases newest first."""

    since: datetime
    until: datetime
    in_all: list[ReleaseCounts]
    recent: list[ReleaseCounts]


def counts_of_app(app: App) -> AppCounts:
    """The counts of an App, for users who may see its releases (`registry.queries.releases_visible_to`).

    Counting a million runs takes seconds, so each process caches its result until midnight.
    """
    until = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return _counted(app.pk, app.owner_id, until, made=app.created_at)


@lru_cache(maxsize=1000)
def _counted(app: int, owner: int, until: datetime, *, made: datetime) -> AppCounts:  # noqa: ARG001
    """`made` is part of the cache's key, because a new database assigns the same primary keys again."""
    since = until - RECENT
    pushed = Release.objects.filter(app=app).order_by("-pushed_at", "-pk")
    releases = dict(pushed.values_list("pk", "digest"))
    in_all, recent = ({pk: ReleaseCounts(digest) for pk, digest in releases.items()} for _ in range(2))
    for name, rows in _rows(owner, list(releases), since=since, until=until).items():
        for release, own, new, state, count in rows:
            for counts in (in_all, recent) if new else (in_all,):
                tally = counts[release].own if own else counts[release].others
                getattr(tally, name)[State(state)] += count
    return AppCounts(since, until, _used(in_all), _used(recent))


def _used(counts: Mapping[int, ReleaseCounts]) -> list[ReleaseCounts]:
    """The releases that were run at least once."""
    return [each for each in counts.values() if any((*each.own.runs.values(), *each.others.runs.values()))]


def _rows(
    owner: int, releases: list[int], *, since: datetime, until: datetime
) -> dict[str, Iterable[tuple[int, bool, bool, str, int]]]:
    """Release, whether by the owner, whether recent, state, number of runs and of tasks."""

    def flag(**condition: object) -> Case:
        return Case(When(**condition, then=Value(True)), default=Value(False), output_field=BooleanField())

    runs = Run.objects.filter(release__in=releases, ended_at__lt=until).order_by()
    tasks = Task.objects.filter(run__release__in=releases, run__ended_at__lt=until).order_by()
    return {
        "runs": runs.annotate(own=flag(owner=owner), new=flag(ended_at__gte=since))
        .values_list("release", "own", "new", "state")
        .annotate(n=Count("*")),
        "tasks": tasks.annotate(own=flag(run__owner=owner), new=flag(run__ended_at__gte=since))
        .values_list("run__release", "own", "new", "state")
        .annotate(n=Count("*")),
    }
