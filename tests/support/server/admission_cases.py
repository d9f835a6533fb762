"""Requests and a capacity for tests of admission."""

import asyncio

from saccade.server.admission.controller import Admission
from saccade.server.admission.pricing import AdmissionLimits, RequestEstimate, Resources

SMALL = RequestEstimate(prompt=20, answer=30)
LARGE = RequestEstimate(prompt=3000, answer=100, visual=2900, media_bytes=1000)
NOTHING = Resources()


def capacity(**changes) -> AdmissionLimits:
    values = {
        "total": Resources(8000, 16, 80_000),
        "context": 6000,
        "queued_requests": 16,
        "queued_bytes": 10_000,
        "queue_seconds": 5.0,
    }
    return AdmissionLimits(**{**values, **changes})


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def admitted(admission: Admission, price: RequestEstimate):
    ticket = admission.arrive(10)
    await admission.admit(ticket, price)
    return ticket


def waiting(admission: Admission, price: RequestEstimate):
    return asyncio.ensure_future(admitted(admission, price))
