"""A name server that changes its mind, asked by the resolver of the machine. In its own namespaces.

    unshare --map-root-user --mount --net python rebinding_child.py

The loopback interface of this network also has a public address, so no check has to be patched.
``rebinding.example`` is that address at first and 127.0.0.1 ever after; its server redirects to the
same name at another port, where only 127.0.0.1 listens. Says on stdout, as JSON, what the name
server was asked, whom a request reached and what became of it.
"""

import asyncio
import fcntl
import json
import socket
import struct
import subprocess
import sys
import tempfile

import dns.flags
import dns.message
import dns.rrset
from fetching import refusal

from saccade.media.fetch.fetcher import FetchPolicy

PUBLIC, PRIVATE, NAME = "93.184.216.34", "127.0.0.1", "rebinding.example."
_SET_ADDRESS, _SET_FLAGS, _UP = 0x8916, 0x8914, 0x1  # netdevice(7)


def set_up_network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", _UP))
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(PUBLIC))
        fcntl.ioctl(control, _SET_ADDRESS, struct.pack("16s16s8x", b"lo:0", address))
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as configuration:
        configuration.write(f"nameserver {PRIVATE}\noptions attempts:1 timeout:5\n")
        configuration.flush()
        subprocess.run(["mount", "--bind", configuration.name, "/etc/resolv.conf"], check=True)


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        answer = dns.message.make_response(query)
        kind = dns.rdatatype.to_text(question.rdtype)
        if str(question.name) == NAME and kind == "A":
            self._asked.append(NAME)
            address = PUBLIC if len(self._asked) == 1 else PRIVATE
            answer.answer = [dns.rrset.from_text(NAME, 0, "IN", "A", address)]
        self._transport.sendto(answer.to_wire(), client)


async def main() -> None:
    asked: list[str] = []
    reached: list[str] = []
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: NameServer(asked), (PRIVATE, 53))

    async def private(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("private")
        writer.close()

    inside = await asyncio.start_server(private, PRIVATE, 0)
    port = inside.sockets[0].getsockname()[1]

    async def public(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.append("public")
        writer.write(
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n"
            + f"Location: http://rebinding.example:{port}/\r\n\r\n".encode()
        )
        writer.close()

    outside = await asyncio.start_server(public, PUBLIC, 80)
    message = await refusal(FetchPolicy(), "http://rebinding.example/")
    outside.close()
    json.dump({"asked": asked, "reached": reached, "message": message}, sys.stdout)


if __name__ == "__main__":
    set_up_network()
    asyncio.run(main())
