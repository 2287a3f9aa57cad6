"""Waiting for runs to change, for many clients at once, with one query for all of them.

One task of the event loop reads the versions of all runs that clients wait for: every 25 ms at first, up to
every 250 ms for those that have waited longer. Without waiting clients there is no task and no connection.

The places are limited. A client beyond them polls: its request is answered after some seconds.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.db.utils import Error
from django.http import HttpRequest

from gridapps.api.errors import ApiError
from gridapps.runs.models import Run

MAX_WAITERS, MAX_PAUSES = 1024, 1024  # in each application process
# In all application processes together: each has an equal share.
MAX_WAITERS_OF_A_USER = 32
MAX_WAITERS_OF_AN_ADDRESS = 128
MAX_PAUSES_OF_A_USER = 256
PAUSE = 5.0  # seconds between two polls of a client that has no place
_FIRST, _LONGEST, _GROWTH = 0.025, 0.25, 1.1
Versions = dict[UUID, int]
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiter:
    seen: Mapping[UUID, int]
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    interval: float = _FIRST
    due: float = 0


class Watch:
    """The waiters of one event loop, and the task that reads the versions for them."""

    def __init__(self) -> None:
        self._waiters: set[_Waiter] = set()
        self._taken: Counter[str] = Counter()  # places by user, by address, and in all
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    @asynccontextmanager
    async def place(self, user: int, address: str) -> AsyncIterator[bool]:
        """Occupy one of the places for waiting. Yields False when none is free."""
        with self._occupied(_limits(user, address)) as free:
            yield free

    async def pause(self, user: int, address: str, *, seconds: float) -> None:
        """Wait without a place: the request is answered a little later, and its client polls.

        Raises ApiError (503) when too many requests pause already.
        """
        with self._occupied(_limits_of_pauses(user, address)) as free:
            if not free:
                raise ApiError("unavailable", "Too many clients wait for runs; try again in a few seconds.")
            await asyncio.sleep(min(seconds, PAUSE))

    @contextlib.contextmanager
    def _occupied(self, limits: Mapping[str, int]) -> Iterator[bool]:
        free = all(self._taken[name] < most for name, most in limits.items())
        if free:
            self._taken.update(limits.keys())
        try:
            yield free
        finally:
            if free:
                self._taken.subtract(limits.keys())
                self._taken = +self._taken  # drops zero counts

    async def change(self, seen: Mapping[UUID, int], *, seconds: float, interval: float = _FIRST) -> bool:
        """Return True once a run has another version than `seen`, or is gone; False after `seconds`.

        `interval`: seconds between the first reads.
        """
        waiter = _Waiter(seen, interval=interval)
        self._waiters.add(waiter)
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(waiter.changed.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="watch") as thread:
            try:
                while self._waiters:
                    now = loop.time()
                    due = [waiter for waiter in self._waiters if waiter.due <= now]
                    if due:
                        await self._tell(due, await loop.run_in_executor(thread, _versions, due))
                    self._wake.clear()
                    pause = min((waiter.due for waiter in self._waiters), default=now) - loop.time()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), max(pause, 0.005))
            finally:
                await loop.run_in_executor(thread, connections.close_all)

    async def _tell(self, due: list[_Waiter], versions: Versions | None) -> None:
        now = asyncio.get_running_loop().time()
        for waiter in due:
            waiter.interval = min(waiter.interval * _GROWTH, _LONGEST)
            waiter.due = now + waiter.interval
            if versions is not None and any(versions.get(run) != seen for run, seen in waiter.seen.items()):
                waiter.changed.set()
                self._waiters.discard(waiter)


def address_of(request: HttpRequest) -> str:
    """The address of the client; of IPv6 its /64 network, all of which one client has."""
    text = request.headers.get("X-Forwarded-For", "")  # nginx sets it
    try:
        found = ip_address(text)
    except ValueError:
        return ""
    return text if found.version == 4 else str(ip_network((found, 64), strict=False))


def _limits(user: int, address: str) -> dict[str, int]:
    return {
        "": MAX_WAITERS,
        f"user {user}": _share(MAX_WAITERS_OF_A_USER),
        f"address {address}": _share(MAX_WAITERS_OF_AN_ADDRESS),
    }


def _limits_of_pauses(user: int, address: str) -> dict[str, int]:
    return {
        "pauses": MAX_PAUSES,
        f"pauses of user {user}": _share(MAX_PAUSES_OF_A_USER),
        f"pauses of address {address}": _share(MAX_PAUSES_OF_A_USER),
    }


def _share(limit: int) -> int:
    """The part of a limit that this process grants. A client beyond it polls, so uneven shares do no harm."""
    return max(1, limit // settings.GRIDAPPS.processes)


def _versions(waiters: list[_Waiter]) -> Versions | None:
    """The versions of all runs that clients wait for; None when the database does not answer."""
    wanted = {run for waiter in waiters for run in waiter.seen}
    try:
        return dict(Run.objects.filter(pk__in=wanted).order_by().values_list("pk", "version"))
    except Error as error:
        logger.warning("Cannot read the versions of runs: %s", error)
        connections.close_all()
        return None


_watches: dict[asyncio.AbstractEventLoop, Watch] = {}


def watch() -> Watch:
    """The watch of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _watches:
        for old in [each for each in _watches if each.is_closed()]:
            del _watches[old]
        _watches[loop] = Watch()
    return _watches[loop]
