#!/usr/bin/env bash
# aiohttp 3.14.5: `TCPConnector(limit=N)` bounds the connections in use, not those that it keeps.
#
# Expected: "limit" is "total number simultaneous connections", so that a client of many hosts has
# at most so many sockets open. Seen: with limit=2, six hosts asked one after the other leave six
# connections open until their keep-alive time is over (15 s); httpcore 1.0.9 with
# max_connections=2 has two at most. A crawler or downloader of user-chosen hosts needs a bound of
# its own.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet aiohttp==3.14.5 'httpcore[asyncio]==1.0.9' 2>/dev/null

cat >"$folder/seen.py" <<'PYTHON'
import asyncio

import aiohttp
import httpcore

HOSTS = 6
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n."


async def main() -> None:
    held = set()

    async def handle(reader, writer):
        held.add(writer)
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            writer.write(ANSWER)
        held.discard(writer)
        writer.close()

    servers = [await asyncio.start_server(handle, "127.0.0.1", 0) for _ in range(HOSTS)]
    urls = [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}/" for one in servers]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2)) as session:
        for url in urls:
            async with session.get(url) as response:
                await response.read()
        await asyncio.sleep(0.2)
        print("aiohttp, limit=2:", len(held), "open")
    await asyncio.sleep(0.2)
    held.clear()
    async with httpcore.AsyncConnectionPool(max_connections=2) as pool:
        for url in urls:
            await pool.request("GET", url)
        await asyncio.sleep(0.2)
        print("httpcore, max_connections=2:", len(held), "open")
    await asyncio.sleep(0.2)  # servers see that their clients have gone


asyncio.run(main())
PYTHON

seen=$("$folder/venv/bin/python" "$folder/seen.py")
echo "$seen"
[ "$seen" = "aiohttp, limit=2: 6 open
httpcore, max_connections=2: 2 open" ] || { echo "this has changed" >&2; exit 1; }
