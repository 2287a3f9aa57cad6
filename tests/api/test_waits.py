"""Places for waiting: a few accounts, or one address, cannot occupy all of them."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from django.http import HttpRequest

from gridapps.api.native import watching
from gridapps.api.native.watching import Watch, address_of


@pytest.fixture(autouse=True)
def one_process(settings: Any) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"processes": 1})


async def _take(watch: Watch, stack: AsyncExitStack, user: int, address: str) -> bool:
    return await stack.enter_async_context(watch.place(user, address))


def test_eight_accounts_leave_places_for_others() -> None:
    async def flood() -> tuple[int, bool]:
        watch = Watch()
        async with AsyncExitStack() as stack:
            taken = 0
            for user in range(8):
                for number in range(200):
                    taken += await _take(watch, stack, user, f"198.51.100.{number}")
            return taken, await _take(watch, stack, 99, "203.0.113.1")

    taken, other = asyncio.run(flood())
    assert taken == 8 * watching.MAX_WAITERS_OF_A_USER
    assert taken < watching.MAX_WAITERS // 2
    assert other


@pytest.mark.parametrize(("processes", "places"), [(1, 32), (4, 8), (64, 1)])
def test_several_processes_together_have_the_places_of_one(
    settings: Any, processes: int, places: int
) -> None:
    settings.GRIDAPPS = settings.GRIDAPPS.model_copy(update={"processes": processes})

    async def flood() -> int:
        watch = Watch()
        async with AsyncExitStack() as stack:
            return sum([await _take(watch, stack, 1, f"198.51.100.{number}") for number in range(100)])

    assert asyncio.run(flood()) == places


def test_one_address_leaves_places_for_others() -> None:
    async def flood() -> tuple[int, bool]:
        watch = Watch()
        async with AsyncExitStack() as stack:
            taken = [await _take(watch, stack, user, "198.51.100.1") for user in range(2000)]
            return sum(taken), await _take(watch, stack, 5000, "203.0.113.1")

    assert asyncio.run(flood()) == (watching.MAX_WAITERS_OF_AN_ADDRESS, True)


def test_places_are_given_back() -> None:
    async def use() -> tuple[int, int]:
        watch = Watch()
        async with AsyncExitStack() as stack:
            for user in range(100):
                await _take(watch, stack, user, "198.51.100.1")
            held = len(watch._taken)
        return held, len(watch._taken)

    assert asyncio.run(use()) == (102, 0)


def test_pauses_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_PAUSES_OF_A_USER", 2)

    async def use() -> list[str]:
        watch = Watch()
        pauses = [asyncio.create_task(watch.pause(1, "198.51.100.1", seconds=600)) for _ in range(3)]
        done, others = await asyncio.wait(pauses, return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            each.cancel()
        await asyncio.wait(others)
        assert not watch._taken
        return [str(each.exception()) for each in done]

    assert asyncio.run(use()) == ["Too many clients wait for runs; try again in a few seconds."]


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_of_ipv6_the_network_counts(sent: str, counted: str) -> None:
    request = HttpRequest()
    request.META["HTTP_X_FORWARDED_FOR"] = sent
    assert address_of(request) == counted
