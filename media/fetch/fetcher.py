"""Fetches data:, http(s): and file: URLs under a policy that is closed by default.

Remote hosts must have public addresses on every hop (:mod:`saccade.media.fetch.addresses`), files
must lie below ``media_root``, and nothing grows beyond ``max_bytes``. Proxy variables of the
environment are not read, cookies not kept.

aiohttp downloads: of small images, 64 at a time, httpcore with its parser in Python fetched a
thirtieth a second.
"""

import asyncio
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import httpx
import yarl

from saccade.media.errors import FetchError, too_large
from saccade.media.fetch.addresses import CheckedResolver, checked_socket
from saccade.media.fetch.data_urls import decode_data_url
from saccade.media.fetch.downloads import Downloads

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*(?=:)")
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "saccade", "Accept": "*/*", "Accept-Encoding": "identity"}
# Codings that leave the bytes as they are; object stores keep the one of an upload.
_PLAIN_CODINGS = ("", "identity", "chunked", "aws-chunked")
_SPELLINGS = "https://..., http://... or data:image/jpeg;base64,..."
# base64 of more than this is decoded off the event loop; less takes no longer (a third of a
# millisecond) than going to a thread and back does.
_INLINE_CHARACTERS = 2**20
_LONGEST_PATH = 4096
_MAX_HEADER = 2**16  # bytes of one line
_MAX_PORT = 2**16 - 1


@dataclass(frozen=True)
class FetchPolicy:
    """Where media may come from, how large it may be and how long it may take."""

    media_root: Path | None = None  # file: URLs must lie below; None refuses them all
    allow_private_addresses: bool = False
    allowed_domains: tuple[str, ...] = ()  # empty: any; a domain stands for its subdomains too
    max_bytes: int = 256 * 2**20  # of one medium, encoded
    connect_timeout: float = 5.0  # seconds of a name look-up; of connecting to one address
    read_timeout: float = 10.0  # seconds without a byte
    total_timeout: float = 60.0  # seconds, all hops together
    max_redirects: int = 3
    max_connections: int = 64  # in use at a time, more wait; kept open beside them
    max_kept_bytes: int = 128 * 2**20  # of downloads of the last minutes; 0: none


Received = Callable[[int], None]
"""Progress callback, given a byte count; an exception aborts the fetch."""


def anything(_: int) -> None:
    """Takes any number of bytes."""


class _BoundedConnector(aiohttp.TCPConnector):
    """Keeps no connection that would be one more than ``limit``, with those in use.

    aiohttp counts those in use alone: a different host for every fetch would leave one open each.
    """

    def _release(self, key: Any, protocol: Any, *, should_close: bool = False) -> None:
        kept = sum(map(len, self._conns.values()))
        full = kept + len(self._acquired) > self.limit
        super()._release(key, protocol, should_close=should_close or full)


class MediaFetcher:
    """Fetches media under a policy. Belongs to the event loop that first uses it."""

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._certificates = httpx.create_ssl_context(trust_env=False)
        self._session: aiohttp.ClientSession | None = None
        self._downloads = Downloads(policy.max_kept_bytes)

    def _open(self) -> aiohttp.ClientSession:
        """The connections, made in the event loop that uses them."""
        if self._session is None:
            policy = self._policy
            connector = _BoundedConnector(
                limit=policy.max_connections,
                ssl=self._certificates,
                resolver=CheckedResolver(policy.allow_private_addresses, policy.connect_timeout),
                socket_factory=None if policy.allow_private_addresses else checked_socket,
                use_dns_cache=False,
                happy_eyeballs_delay=None,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=_HEADERS,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    sock_connect=policy.connect_timeout, sock_read=policy.read_timeout
                ),
                auto_decompress=False,
                max_line_size=_MAX_HEADER,
                max_field_size=_MAX_HEADER,
            )
        return self._session

    async def fetch(self, url: str, received: Received = anything, owner: str = "") -> bytes:
        """The bytes behind ``url``: data:, http:, https:, file:, or a path below media_root.

        Args:
            owner: who asks; what one has downloaded is not there for others.

        Raises:
            FetchError: refused, absent, or not delivered in time.
            LimitError: larger than ``max_bytes``.
        """
        try:
            if not url.isascii():  # a copy of a long data URL takes time
                url.encode()
        except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
            raise FetchError("the URL is malformed") from None
        url = url.strip()  # as browsers do
        match = _SCHEME.match(url)
        scheme = match.group().lower() if match else "file"
        if match is None and (self._policy.media_root is None or len(url) > _LONGEST_PATH):
            raise FetchError(f"this is no URL; a medium is sent as {_SPELLINGS}")
        if scheme in ("http", "https"):
            return await self._download(url, received, owner)
        if scheme == "data" and len(url) <= _INLINE_CHARACTERS:
            data = decode_data_url(url, self._policy.max_bytes)
        elif scheme == "data":
            data = await asyncio.to_thread(decode_data_url, url, self._policy.max_bytes)
        elif scheme == "file":
            try:
                data = await asyncio.to_thread(read_file, url, self._policy)
            except FetchError as error:
                if match is None:  # perhaps base64 alone
                    raise FetchError(f"{error.message}; what is no file: {_SPELLINGS}") from None
                raise
        else:
            raise FetchError(f"URL scheme {scheme[:32]!r} is not supported: use {_SPELLINGS}")
        received(len(data))
        return data

    async def close(self) -> None:
        """Closes the connections that were kept open."""
        if self._session is not None:
            await self._session.close()

    async def _download(self, url: str, received: Received, owner: str) -> bytes:
        try:
            async with asyncio.timeout(self._policy.total_timeout):
                for _ in range(self._policy.max_redirects + 1):
                    answer = await self._request(self._checked_url(url), received, owner)
                    if isinstance(answer, bytes):
                        return answer
                    url = answer
        except TimeoutError:
            seconds = self._policy.total_timeout
            raise FetchError(f"the media was not delivered within {seconds:g} s") from None
        raise FetchError(f"more than {self._policy.max_redirects} redirects")

    def _checked_url(self, url: str) -> httpx.URL:
        try:
            parsed = httpx.URL(url)
            host = parsed.host.lower().rstrip(".")
        except (httpx.InvalidURL, UnicodeError):  # the latter from a name that IDNA cannot read
            raise FetchError("the URL is malformed") from None
        if (
            ":" in host and "%" in host
        ):  # the zone of an IPv6 address, which is this machine's affair
            raise FetchError("the URL is malformed")
        if (parsed.port or 0) > _MAX_PORT:
            raise FetchError("the port of the URL is out of range")
        if parsed.scheme not in ("http", "https"):
            raise FetchError("a redirect leads to something other than http or https")
        if not host or parsed.userinfo:
            raise FetchError("the URL must name a host and no user")
        domains = self._policy.allowed_domains
        if domains and not any(
            host == domain.lower() or host.endswith("." + domain.lower()) for domain in domains
        ):
            raise FetchError("the host of the URL is not among the allowed domains")
        return parsed

    async def _request(self, url: httpx.URL, received: Received, owner: str) -> bytes | str:
        """The body, or the URL that a redirect points to."""
        policy, name = self._policy, str(url)
        kept = self._downloads.find(owner, name)
        if kept is not None and self._downloads.is_fresh(kept):
            received(len(kept.data))
            return kept.data
        conditions = kept.conditions if kept is not None else None
        try:
            async with self._open().get(
                _unparsed(url), headers=conditions, allow_redirects=False
            ) as response:
                if response.status in _REDIRECTS and "location" in response.headers:
                    return str(url.join(response.headers["location"]))
                if kept is not None and response.status == 304:
                    data = kept.data
                    received(len(data))
                elif response.status != 200:
                    raise FetchError(f"the media server answered with status {response.status}")
                else:
                    kept, data = None, await self._read_body(response, received)
                self._downloads.keep(owner, name, response.headers, data, kept)
                return data
        except aiohttp.SocketTimeoutError:
            raise FetchError(
                f"the media server sent nothing for {policy.read_timeout:g} s"
            ) from None
        except aiohttp.ServerTimeoutError:
            raise FetchError(f"no connection within {policy.connect_timeout:g} s") from None
        except aiohttp.InvalidURL:
            raise FetchError("the URL is malformed") from None
        except aiohttp.ClientError:
            raise FetchError("the connection to the media server failed or broke off") from None
        except (httpx.InvalidURL, UnicodeError):
            raise FetchError("the media server redirects to a malformed URL") from None

    async def _read_body(self, response: aiohttp.ClientResponse, received: Received) -> bytes:
        # Nothing is decompressed: a small answer must not grow past the cap.
        for header in ("content-encoding", "transfer-encoding"):
            for coding in response.headers.get(header, "").lower().split(","):
                if coding.strip() not in _PLAIN_CODINGS:
                    told = "the media server compressed its answer, although asked not to"
                    raise FetchError(f"{told} ({coding.strip()[:32]})")
        if (response.content_length or 0) > self._policy.max_bytes:
            raise too_large(self._policy.max_bytes)
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self._policy.max_bytes:
                raise too_large(self._policy.max_bytes)
            received(len(chunk))
        return bytes(body)


def _unparsed(url: httpx.URL) -> yarl.URL:
    """For aiohttp, from the parts that were checked: the text is not parsed again."""
    host = url.raw_host.decode("ascii")
    path, _, query = url.raw_path.decode("ascii").partition("?")
    return yarl.URL.build(
        scheme=url.scheme,
        host=f"[{host}]" if ":" in host else host,
        port=url.port,
        path=path,
        query_string=query,
        encoded=True,
    )


def read_file(url: str, policy: FetchPolicy) -> bytes:
    """The bytes of a ``file:`` URL or bare path, which must lie below ``media_root``.

    A relative path starts at ``media_root``. Links are followed first and judged by where they
    lead; what lies outside is refused in the same words whether it exists or not.

    Raises:
        FetchError: outside, absent, or not a regular file.
        LimitError: larger than ``max_bytes``.
    """
    if policy.media_root is None:
        raise FetchError(f"local files are not served; use {_SPELLINGS}")
    path = _file_path(url)
    root = policy.media_root.resolve()
    try:
        resolved = (root / path).resolve()
    except (OSError, ValueError, RuntimeError):
        raise FetchError("the path of the file URL is malformed") from None
    if not resolved.is_relative_to(root):
        raise FetchError("the file lies outside the media folder")
    try:
        # No link may take the place of the file that was judged, no pipe may block.
        handle = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise FetchError("the file does not exist or cannot be read") from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise FetchError("not a regular file")
    with os.fdopen(handle, "rb") as file:
        if status.st_size > policy.max_bytes:
            raise too_large(policy.max_bytes)
        data = file.read(policy.max_bytes + 1)
    if len(data) > policy.max_bytes:
        raise too_large(policy.max_bytes)
    return data


def _file_path(url: str) -> str:
    if not url.lower().startswith("file:"):
        return url
    rest = url[len("file:") :]
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise FetchError("a file URL must not name a host")
        rest = slash + rest
    return unquote(rest)
