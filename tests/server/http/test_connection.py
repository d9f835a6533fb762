"""Work for a client that may leave, and events on their way to it; without a server."""

import asyncio
import gc
import weakref

import pytest
from starlette.requests import ClientDisconnect, Request

from saccade.server.core.errors import ApiError, EngineDied
from saccade.server.engine.errors import api_error
from saccade.server.http.connection import EventStream, while_connected

SCOPE = {"type": "http", "headers": []}


class Prompt:
    """What a request holds."""


class Client:
    """Its connection: leaves when told."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.sent: list[bytes] = []

    async def receive(self) -> dict:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message.get("body", b""))

    @property
    def request(self) -> Request:
        return Request(SCOPE, self.receive)


@pytest.fixture
async def death():
    return asyncio.get_running_loop().create_future()


@pytest.fixture
def no_search():
    """Python frees only what nothing refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def wait_until(ended: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.set()


async def connected(client: Client, work, death):
    with while_connected(client.request, death):
        return await work


async def work_ends(work, death, client, end) -> BaseException:
    task = asyncio.create_task(connected(client, work, death))
    await asyncio.sleep(0.01)
    assert not task.done()
    end()
    (found,) = await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled() or not task.cancelling()
    return found


async def test_work_that_waits_ends_with_the_engine(death):
    ended = asyncio.Event()
    found = await work_ends(wait_until(ended), death, Client(), lambda: death.set_result(None))
    assert isinstance(found, EngineDied)
    assert ended.is_set()


async def test_work_that_waits_ends_with_its_client(death):
    ended, client = asyncio.Event(), Client()
    found = await work_ends(wait_until(ended), death, client, client.left.set)
    assert isinstance(found, ClientDisconnect)
    assert ended.is_set()


async def test_who_is_cancelled_is_not_taken_for_one_whose_client_left(death):
    ended, client = asyncio.Event(), Client()
    task = asyncio.create_task(connected(client, wait_until(ended), death))
    await asyncio.sleep(0.01)
    client.left.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_answer_counts_although_its_client_has_just_left(death):
    client = Client()

    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "answer"

    async def ask():
        answer = await connected(client, stubborn(), death)
        await asyncio.sleep(0)  # nothing of the leaving is left to come
        return answer

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.01)
    client.left.set()
    assert await task == "answer"


async def test_work_and_stream_begin_in_the_same_turn_of_the_event_loop(death):
    turns, client = [], Client()

    async def events():
        turns.append("asked")
        yield "data: 1\n\n"

    async def answer():
        turns.append("work")
        return EventStream(events())

    asyncio.get_running_loop().call_soon(turns.append, "next turn")
    stream = await connected(client, answer(), death)
    await stream(SCOPE, client.receive, client.send)
    assert turns == ["work", "asked"]
    assert client.sent == [b"", b"data: 1\n\n", b""]


async def test_a_stream_that_its_client_leaves_is_closed_and_keeps_nothing(no_search):
    client, closed, prompt = Client(), asyncio.Event(), Prompt()

    async def events(prompt):
        try:
            yield "data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = EventStream(events(prompt))
    kept = weakref.ref(prompt)
    del prompt
    task = asyncio.create_task(stream(SCOPE, client.receive, client.send))
    await asyncio.sleep(0.01)
    assert kept() is not None
    client.left.set()
    await task
    assert closed.is_set()
    assert client.sent == [b"", b"data: 1\n\n"]  # the answer is not said to be whole
    del stream, task
    await asyncio.sleep(0)
    assert kept() is None


def test_an_error_of_vllms_keeps_no_prompt(no_search):
    prompt = Prompt()
    kept = weakref.ref(prompt)

    def validate(prompt):
        # As vLLM's do: the error is in a circle with the frame that raises it.
        error = ValueError("too long")
        raise error

    def ask(prompt):
        try:
            validate(prompt)
        except ValueError as error:
            raise api_error(error) from None

    with pytest.raises(ApiError, match="too long"):
        ask(prompt)
    del prompt
    assert kept() is None
