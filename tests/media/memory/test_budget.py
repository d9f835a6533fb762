"""Work waits for its share of memory, in order, and nothing of a share is lost."""

import asyncio
import random

import pytest

from saccade.media.memory.budget import Budget


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Work:
    """Holds its cost until it is told to end."""

    def __init__(self, budget: Budget, cost: int) -> None:
        self.inside, self.end = False, asyncio.Event()
        self.task = asyncio.create_task(self._run(budget, cost))

    async def _run(self, budget: Budget, cost: int) -> None:
        async with budget.hold(cost):
            self.inside = True
            try:
                await self.end.wait()
            finally:
                self.inside = False


async def test_work_waits_in_order() -> None:
    budget = Budget(10)
    works = [Work(budget, cost) for cost in (6, 3, 4, 1)]
    await settle()
    # The last would fit, but it came after one that does not.
    assert [work.inside for work in works] == [True, True, False, False]
    works[0].end.set()
    await settle()
    assert [work.inside for work in works] == [False, True, True, True]
    assert budget.held == 8


async def test_what_is_larger_than_the_limit_runs_alone() -> None:
    budget = Budget(10)
    works = [Work(budget, cost) for cost in (1, 50, 1)]
    await settle()
    assert [work.inside for work in works] == [True, False, False]
    works[0].end.set()
    await settle()
    assert [work.inside for work in works] == [False, True, False]
    works[1].end.set()
    await settle()
    assert [work.inside for work in works] == [False, False, True]


async def test_work_that_is_cancelled_makes_room() -> None:
    budget = Budget(10)
    works = [Work(budget, cost) for cost in (5, 9, 2)]
    await settle()
    works[1].task.cancel()  # while it waits
    await settle()
    assert [work.inside for work in works] == [True, False, True]
    works[0].task.cancel()  # while it works
    await settle()
    assert budget.held == 2


async def test_work_that_is_cancelled_as_it_is_let_in_gives_back() -> None:
    budget = Budget(10)
    first, second = Work(budget, 8), Work(budget, 8)
    await settle()
    first.end.set()
    await asyncio.sleep(0)  # first leaves, which lets second in before it runs again
    assert (first.inside, budget.held, second.inside) == (False, 8, False)
    second.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second.task
    assert budget.held == 0


async def test_nothing_is_lost_in_any_order() -> None:
    chance = random.Random(0)
    budget, works = Budget(20), []
    for _ in range(500):
        works.append(Work(budget, chance.randint(1, 25)))
        work = chance.choice(works)
        work.end.set() if chance.random() < 0.5 else work.task.cancel()
        await asyncio.sleep(0)
        assert budget.held <= 20 or sum(work.inside for work in works) <= 1
    for work in works:
        work.end.set()
    await asyncio.gather(*(work.task for work in works), return_exceptions=True)
    assert budget.held == 0
