"""Connects to public addresses only (protection against SSRF).

The check sits where the socket is opened: a name is resolved once, every address of the answer is
checked, and a checked address is dialled. So nothing hangs on how a URL spells its host, which
others read in two ways when they judge the text with one parser and dial with another
(CVE-2026-24779 in vLLM), nor on a redirect or a second look-up.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

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


class CheckedResolver(AbstractResolver):
    """Resolves names to public addresses only.

    Args:
        allow_private_addresses: pass whatever a name resolves to.
        timeout: seconds for one look-up.
    """

    def __init__(self, allow_private_addresses: bool, timeout: float) -> None:
        self._allow_private_addresses = allow_private_addresses
        self._timeout = timeout

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses of ``host``.

        Raises:
            FetchError: the name does not resolve, or one of its addresses is not public.
            TimeoutError: no answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                infos = await asyncio.get_running_loop().getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                )
        except TimeoutError:
            raise
        except (OSError, UnicodeError):
            raise FetchError("the host name of the URL does not resolve") from None
        addresses = dict.fromkeys(str(info[4][0]) for info in infos)
        if not self._allow_private_addresses:
            for address in addresses:
                check_public(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


def checked_socket(info: AddrInfoType) -> socket.socket:
    """A socket to dial an address with, which the URL may have named itself.

    Raises:
        FetchError: the address is not public.
    """
    check_public(str(info[4][0]))
    return socket.socket(*info[:3])


def check_public(address: str) -> None:
    """Raises FetchError for an address that is not public."""
    if not is_public(address):
        raise FetchError("the host of the URL has an address that is not public")
