"""How many tasks are before the first queued task of a run, in the order of `lanes`.

An estimate: it assumes that all tasks of a user are alike, ignores limits, and cannot foresee when tasks end
or what is submitted meanwhile. The counted rows are bounded, and so is the cost.
"""

from dataclasses import dataclass

from django.db import connection
from django.db.models import Count, Q

from gridapps.runs.models import Lane, Run, Task, Turn
from gridapps.runs.states import State

_COUNTED = 100_000  # tasks, over all users
_USERS = 1000  # other users with queued tasks
_WAITING = """
SELECT others.owner_id, (
    SELECT COUNT(*) FROM (
        SELECT 1 FROM runs_task AS task
        WHERE task.owner_id = others.owner_id AND task.state = 'QUEUED' LIMIT %s
    ) AS waiting
) FROM (SELECT DISTINCT owner_id FROM runs_lane WHERE owner_id <> %s LIMIT %s) AS others
"""


@dataclass(frozen=True)
class Ahead:
    """Tasks that start before the run's first queued one."""

    own: int
    others: int

    @property
    def sum(self) -> int:
        return self.own + self.others


def position(run: Run) -> int | None:
    """0 for a run whose first task is next; None when none of its tasks is queued."""
    first = ahead(run)
    return None if first is None else first.sum


def ahead(run: Run) -> Ahead | None:
    """The tasks before the run's first queued one; None when none of its tasks is queued."""
    head = Task.objects.filter(run=run.pk, state=State.QUEUED).order_by("index").first()
    if head is None:
        return None
    # A task that was given back gets a rank with the next claim.
    at = head.rank or head.queued_at
    earlier = Q(rank__lt=at) | Q(rank=at, index__lt=head.index, run=run.pk)
    mine = Task.objects.filter(earlier, owner=run.owner_id, state=State.QUEUED)[:_COUNTED].count()
    return Ahead(mine, sum(_before(run, mine).values()))


def _before(run: Run, mine: int) -> dict[int, int]:
    """For each other user with queued tasks, how many of them start before the run's first queued task.

    `mine` tasks of the owner precede that task. Turns give all users the same number of started tasks.
    """
    rows = Task.objects.filter(state=State.RUNNING).order_by().values_list("owner").annotate(n=Count("pk"))
    running = dict(rows)
    turns = dict(Turn.objects.values_list("owner", "at"))
    users = min(Lane.objects.exclude(owner=run.owner_id).values("owner").distinct().count(), _USERS)
    level = mine + running.get(run.owner_id, 0)
    my_turn = turns.get(run.owner_id)
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [min(level + 1, _COUNTED // max(users, 1)), run.owner_id, _USERS])
        waiting = dict(cursor.fetchall())
    before = {}
    for other, tasks in waiting.items():
        turn = turns.get(other)
        first = my_turn is not None and (turn is None or turn < my_turn)
        before[other] = min(tasks, max(0, level - running.get(other, 0) + first))
    return before
