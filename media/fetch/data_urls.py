"""The payload of a data: URL, which may be most of a request: decoded without a copy."""

import binascii
import ctypes
from contextlib import suppress
from urllib.parse import unquote, unquote_to_bytes

import pybase64

from saccade.media.errors import FetchError, too_large

_BLANKS = " \t\r\n"
_WITHOUT_BLANKS = str.maketrans("", "", _BLANKS)

_utf8_of = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
_utf8_of.argtypes, _utf8_of.restype = [ctypes.py_object, ctypes.c_void_p], ctypes.c_void_p


def decode_data_url(url: str, max_bytes: int) -> bytes:
    """The payload of a ``data:`` URL (RFC 2397), base64 or percent-encoded.

    Raises:
        FetchError: malformed.
        LimitError: larger than ``max_bytes``; told from its length before it is decoded.
    """
    comma = url.find(",")
    if comma < 0:
        raise FetchError("the data URL has no comma before its payload")
    header, start = url[:comma], comma + 1
    if ";" not in header or header.lower().rpartition(";")[2].strip() != "base64":
        payload = url[start:]
        # Every byte takes one character, or three when escaped.
        if len(payload) - 2 * payload.count("%") > max_bytes:
            raise too_large(max_bytes)
        return unquote_to_bytes(payload)
    if url.isascii() and (len(url) - start - url.count("=", -2)) * 3 // 4 <= max_bytes:
        # As most write it. Every look through megabytes for what others write would take time.
        with suppress(binascii.Error, ValueError):
            # The characters where they are: no copy is made of them.
            view = memoryview((ctypes.c_char * len(url)).from_address(_utf8_of(url, None)))
            return pybase64.b64decode(view.cast("B")[start:], validate=True)
    payload = url[start:]
    if "%" in payload:
        if len(payload) > 4 * max_bytes + 1024:
            raise too_large(max_bytes)
        payload = unquote(payload)
    if any(letter in payload for letter in _BLANKS):
        if len(payload) > 2 * max_bytes + 1024:
            raise too_large(max_bytes)
        payload = payload.translate(_WITHOUT_BLANKS)
    letters = payload.rstrip("=")
    if len(letters) * 3 // 4 > max_bytes:
        raise too_large(max_bytes)
    if len(payload) % 4:
        payload = letters + "=" * (-len(letters) % 4)
    try:
        return pybase64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        if "," in payload and header.lower().startswith("data:video/jpeg"):
            raise FetchError(
                'a list of frames is {"type": "video", "video": ["data:image/jpeg;base64,...", '
                "...]}, each frame a URL"
            ) from None
        raise FetchError("the data URL is not valid base64") from None
