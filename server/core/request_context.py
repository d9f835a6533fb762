"""What is known of the request at hand: its id, and numbers for its log line and its span."""

import logging
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class RequestRecord:
    """One request. Never holds anything that the client has written but a checked id."""

    id: str
    numbers: dict[str, int] = field(default_factory=dict)  # image_tokens, prompt_tokens ...


CALLER = "saccade.caller"
"""Key of an ASGI scope: which of the API keys a request has, as a digest; absent where none is
needed."""

CURRENT_REQUEST: ContextVar[RequestRecord | None] = ContextVar("request", default=None)


def annotate_request(**numbers: int) -> None:
    """Adds numbers to the record of the request at hand, if there is one."""
    if (record := CURRENT_REQUEST.get()) is not None:
        record.numbers.update(numbers)


class RequestIdFilter(logging.Filter):
    """Adds the id of the request at hand to log lines: as a field, and in text at the end."""

    def __init__(self, in_text: bool) -> None:
        super().__init__()
        self._in_text = in_text

    def filter(self, record: logging.LogRecord) -> bool:
        if (current := CURRENT_REQUEST.get()) is not None:
            record.request_id = current.id
            if self._in_text:
                record.msg = f"{record.msg} [{current.id}]"  # an id holds no %
        return True
