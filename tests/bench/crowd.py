"""Connections that cost a server more than they bring: a third says nothing, a third sends a byte a second of a
request, a third has sent half a request and then fell silent, as one whose machine is gone.

python crowd.py HOST PORT PATH COUNT: says `gathered` when all are there; when its input ends, how many still are.
"""

from __future__ import annotations

import asyncio
import resource
import sys

BODY = b'{"features":[' + b",".join([b"0.5"] * 20) + b"]}"


SETTLE_S = 0.2
"""Until it is seen which ones the server has closed."""


async def main(host: str, port: int, path: str, count: int) -> None:
    """Until the input ends."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    gate = asyncio.Semaphore(100)

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            return await asyncio.open_connection(host, port)

    ends = await asyncio.gather(*(opened() for _ in range(count)))
    silent = [asyncio.create_task(reader.read(1)) for reader, _ in ends]
    for _, writer in ends[2::3]:
        writer.write(request[: len(request) - len(BODY) // 2])
    slow = [asyncio.create_task(_drip(writer, request)) for _, writer in ends[1::3]]
    print("gathered", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.sleep(SETTLE_S)
    print(sum(not each.done() for each in silent), flush=True)
    for task in (*silent, *slow):
        task.cancel()
    for _, writer in ends:
        writer.close()


async def _drip(writer: asyncio.StreamWriter, request: bytes) -> None:
    for byte in request:
        writer.write(bytes((byte,)))
        await asyncio.sleep(1)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
