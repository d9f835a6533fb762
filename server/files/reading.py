"""The body of an upload, multipart/form-data, on its way to the store: never whole in memory."""

import asyncio
from collections.abc import Mapping
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from saccade.server.core.errors import ApiError, BodyTimeout, InvalidRequest
from saccade.server.files.store import Upload

_MOST_FIELD_BYTES = 4096  # of the value of a field that is no file
_MOST_FIELDS = 16
_IDLE_SECONDS = 30.0  # without a byte


class Form:
    """Takes the parts of a form as they come: ``file`` to the upload, the others to ``fields``."""

    def __init__(self, boundary: bytes, upload: Upload) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._upload = upload
        self._name, self._value, self._is_file = "", bytearray(), False
        self._header, self._headers = [bytearray(), bytearray()], dict[str, str]()
        self.ended = False
        callbacks: Mapping[str, Any] = {
            "on_part_begin": self._headers.clear,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_part,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    def feed(self, data: bytes) -> None:
        """Takes more of the body. Blocks on the disk."""
        try:
            self._parser.write(data)
        except FormParserError:
            raise InvalidRequest("the body is no valid multipart/form-data") from None

    def _end_header(self) -> None:
        name, value = (bytes(text).decode("latin-1") for text in self._header)
        self._headers[name.lower()] = value
        self._header = [bytearray(), bytearray()]

    def _begin_part(self) -> None:
        disposition = self._headers.get("content-disposition", "")
        _, options = parse_options_header(disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file"
        self._value = bytearray()
        if self._is_file:
            if self.filename is not None:
                raise InvalidRequest("one file at a time", "file")
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")
        elif len(self.fields) == _MOST_FIELDS:
            raise InvalidRequest(f"a form may have {_MOST_FIELDS} fields")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._upload.write(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > _MOST_FIELD_BYTES:
            raise InvalidRequest("the field is too long", self._name[:64])

    def _end_part(self) -> None:
        if not self._is_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True


async def read_form(request: Request, upload: Upload) -> Form:
    """Reads the body into ``upload``.

    Raises:
        ApiError: it is not multipart/form-data (415).
        InvalidRequest: it is malformed, or ends too soon.
        RequestTooLarge, StorageFull: as `Upload.write`.
        BodyTimeout: nothing came for too long.
        ClientDisconnect: the client has left.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise ApiError("the Content-Type must be multipart/form-data", status=415)
    form = Form(options[b"boundary"], upload)
    body = request.stream()
    try:
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                data = await anext(body, None)
            if data is None:
                break
            if data:
                await asyncio.to_thread(form.feed, data)
    except TimeoutError:
        raise BodyTimeout("the body of the request did not arrive in time") from None
    if not form.ended:
        raise InvalidRequest("the body ends before its last boundary")
    return form
