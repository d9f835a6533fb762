"""Connects to public addresses only (protection against SSRF).

The check sits where the socket is opened: a name is resolved once, every address of the answer is
checked, and a checked address is dialled. So nothing hangs on how a URL spells its host, which
others read in two ways when they judge the text with one parser and dial with another
(CVE-2026-24779 in vLLM), nor on a redirect or a second look-up.
"""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpcore

from saccade.media.errors import FetchError

_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet.

    Private, loopback, link-local (so cloud metadata too), carrier, multicast, reserved and
    documentation ranges are not, nor is an IPv6 address that stands for such an IPv4 address.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inner = _embedded_ipv4(ip)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _embedded_ipv4(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    # Teredo's second half is the client, the address that packets go to.
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """An httpcore network backend that connects to public addresses only.

    Args:
        allow_private_addresses: dial whatever the name resolves to.
    """

    def __init__(self, allow_private_addresses: bool) -> None:
        self._allow_private_addresses = allow_private_addresses
        self._inner = httpcore.AnyIOBackend()

    # httpcore's interface passes timeouts as arguments: hence the noqa below.
    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to ``host``, trying its addresses in turn within ``timeout`` seconds.

        Raises:
            FetchError: the name does not resolve, or resolves to an address that is not public.
            httpcore.ConnectError, httpcore.ConnectTimeout: nobody answered.
        """
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
                return await self._dial(addresses, port, local_address, socket_options)
        except TimeoutError:
            raise httpcore.ConnectTimeout("no connection in time") from None

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuses: media does not come from sockets of this machine."""
        raise FetchError("media cannot come from a local socket")

    async def sleep(self, seconds: float) -> None:
        """Waits; part of httpcore's interface."""
        await asyncio.sleep(seconds)

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise FetchError("the host name of the URL does not resolve") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not self._allow_private_addresses and not all(map(is_public, addresses)):
            raise FetchError("the host of the URL has an address that is not public")
        return addresses

    async def _dial(
        self,
        addresses: list[str],
        port: int,
        local_address: str | None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None,
    ) -> httpcore.AsyncNetworkStream:
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(
                    address, port, None, local_address, socket_options
                )
            except httpcore.ConnectError:
                continue
        return await self._inner.connect_tcp(
            addresses[-1], port, None, local_address, socket_options
        )
