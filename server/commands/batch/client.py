"""One request to an OpenAI-compatible server, and what it said."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp

from saccade.server.commands.batch.errors import BatchStopped

_LONGEST_WAIT = 3600.0  # s
_SHOWN = 1000  # characters of an answer that is no JSON


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. `retry_after` is in seconds; `body` is parsed JSON."""

    status: int
    request_id: str
    body: Any
    retry_after: float | None


class NoAnswer(Exception):
    """The connection failed or timed out."""


class Client:
    """A context: the connections to one server."""

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        """`url` is the server's, with or without /v1; `timeout` in seconds, of a whole request."""
        self._root = url.rstrip("/").removesuffix("/v1")
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 30))

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers=self._headers, timeout=self._timeout
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def post(self, path: str, body: bytes) -> Answer:
        """Sends one request. Raises NoAnswer."""
        return await self._ask("POST", path, body)

    async def first_model(self) -> str:
        """The model that the server names first; opens and closes the context.

        Raises:
            BatchStopped: there is none, or no answer.
        """
        place = f"{self._root}/v1/models"
        async with self:
            try:
                answer = await self._ask("GET", "/v1/models", None)
                return str(answer.body["data"][0]["id"])
            except NoAnswer as error:
                raise BatchStopped(f"{place}: {error}") from None
            except (LookupError, TypeError):
                raise BatchStopped(f"{place} names no model; name one with --model") from None

    async def _ask(self, method: str, path: str, body: bytes | None) -> Answer:
        try:
            # Redirected, a POST would become a GET.
            async with self._session.request(
                method, self._root + path, data=body, allow_redirects=False
            ) as response:
                content = await response.read()
        except TimeoutError:
            raise NoAnswer("timed out") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(str(error) or type(error).__name__) from None
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError):
            text = content[:_SHOWN].decode(errors="replace")
            parsed = {"error": {"message": f"the answer is no JSON: {text}", "type": "not_json"}}
            if 200 <= response.status < 300:
                return Answer(502, "", parsed, None)
        return Answer(
            response.status,
            response.headers.get("X-Request-Id", ""),
            parsed,
            read_retry_after(response.headers.get("Retry-After")),
        )


def read_retry_after(value: str | None) -> float | None:
    """Seconds from now: of a number or an HTTP date (RFC 9110, 10.2.3); None if it is neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else None
