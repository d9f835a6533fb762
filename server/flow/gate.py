"""Where one request passes admission: between the plans of its media and their decoding."""

from collections.abc import Sequence
from typing import Any

from saccade.media.items import PlannedMedium
from saccade.server.admission.controller import Ticket
from saccade.server.admission.pricing import price_request, text_tokens
from saccade.server.request.message_parts import ImagePart, VideoPart

_INLINE = "data:"


class FetchGate:
    """The admission of a request that only wants to know of its media: while they are fetched it
    takes a place among those that wait, and then it goes on at once."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket

    def fetch(self, parts: Sequence[ImagePart | VideoPart]) -> None:
        """The media are about to be fetched.

        Raises:
            Overloaded: too many requests wait already.
        """
        sources = [part.url if isinstance(part, ImagePart) else part.source for part in parts]
        urls = [url for one in sources for url in ([one] if isinstance(one, str) else one)]
        self._ticket.fetch(not all(url.startswith(_INLINE) for url in urls))

    def received(self, count: int) -> None:
        """So many bytes of the media have come in.

        Raises:
            ApiError: they are too many for this server.
            Overloaded: too many with those of the requests that wait.
        """
        self._ticket.receive(count)

    async def admit(
        self, prompt: object, media: Sequence[tuple[str, PlannedMedium]] = (), prompts: int = 1
    ) -> None:
        """Returns at once: there is nothing to wait for."""


class Gate(FetchGate):
    """The admission of a request that runs the model.

    Args:
        ticket: of the request.
        body: of the request.
        param: the field that holds its prompt.
        ordered: the engine takes requests by priority.
    """

    def __init__(self, ticket: Ticket, body: dict[str, Any], param: str, ordered: bool) -> None:
        super().__init__(ticket)
        self._body = body
        self._param = param
        self._ordered = ordered

    async def admit(
        self, prompt: object, media: Sequence[tuple[str, PlannedMedium]] = (), prompts: int = 1
    ) -> None:
        """Returns once the request may go on, with its priority in the body.

        Args:
            prompt: what reaches the model, media aside.
            media: the planned media, with their paths.
            prompts: how many prompts the request has.

        Raises:
            ApiError: it can never be served.
            Overloaded: too many requests wait already, or this one has waited too long.
        """
        price = price_request(
            self._body,
            text_tokens(prompt) + text_tokens(self._body.get("tools")),
            [(path, planned.plan.tokens) for path, planned in media],
            sum(planned.encoded_bytes + planned.decoded_bytes for _, planned in media),
            self._param,
            prompts,
        )
        await self._ticket.admit(price)
        if self._ordered:
            self._body["priority"] = int(self._ticket.kind)
