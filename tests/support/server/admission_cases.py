"""Requests and a capacity for tests of admission."""

import asyncio

from saccade.server.admission.controller import Admission
from saccade.server.admission.pricing import Capacity, Cost, Price

SMALL = Price(prompt=20, answer=30)
LARGE = Price(prompt=3000, answer=100, visual=2900, media_bytes=1000)
NOTHING = Cost()


def capacity(**changes) -> Capacity:
    values = {
        "total": Cost(8000, 16, 80_000),
        "context": 6000,
        "queued_requests": 16,
        "queued_bytes": 10_000,
        "queue_seconds": 5.0,
    }
    return Capacity(**{**values, **changes})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def admitted(admission: Admission, price: Price):
    ticket = admission.arrive(10)
    await ticket.admit(price)
    return ticket


def waiting(admission: Admission, price: Price):
    return asyncio.ensure_future(admitted(admission, price))
