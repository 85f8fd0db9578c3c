"""The link to the next segment, where a chain goes on in another process: its records by an internal POST.

::

    POST /internal/records     [record, ...]          fogline-deadline-ms, traceparent, authorization
    200                        [{"results": [...]} or {"stage", "node", "reason", "refused"}, ...]

Over TLS where the next node has a certificate, which must be of an authority that this node trusts, and for the
address that it is reached by. Connections are kept and used again. One that cannot be made is tried again for a second:
a caller is better told to come again than left waiting. One that had been kept and was closed since is replaced. A
request whose connection breaks is not sent twice: stages may hold state.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import orjson

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.errors import Failure
from fogline.runtimes.serving.certificate import trusting
from fogline.runtimes.serving.chain import Answer
from fogline.runtimes.serving.refusals import Refusal, bad_request

PATH = "/internal/records"
DEADLINE = b"fogline-deadline-ms"
TRACE = b"traceparent"
PATIENCE_S = 1.0
"""How long a segment that takes no connection is tried."""
AGAIN = ((b"retry-after", b"1"),)
IDLE = 128
"""Connections kept at most while nobody needs them."""
LIMIT_BYTES = 64 * 1024 * 1024
"""Of an answer."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Broken(Exception):
    """The connection ended before an answer began."""


class Next:
    """The segment that goes on. Belongs to the loop's thread."""

    def __init__(self, url: str, token: str, name: str = "") -> None:
        """`name`: what people call it, such as `segment double on cloud_1`. Raises SpecError where it is reached by TLS
        and this node's authority cannot be read."""
        parts = urlsplit(url)
        self._tls = trusting() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.address = f"{self._host}:{self._port}"
        self.name = f"{name or 'the next segment'} at {self.address}"
        self._idle: list[_Connection] = []
        head = f"POST {PATH} HTTP/1.1\r\nhost: {self.address}\r\ncontent-type: application/json\r\n"
        self._head = (head + (f"authorization: Bearer {token}\r\n" if token else "")).encode()

    async def answers(self, answers: Sequence[Answer], deadline: float, trace: str) -> list[Answer]:
        """What becomes of the answers of this chain in the next one; failures stay.

        Raises Refusal: 503 when the segment cannot be reached or breaks off, 502 when it makes no sense, 504 when it
        does not answer in time.
        """
        records = [record for answer in answers if not isinstance(answer, Failure) for record in answer]
        if not records:
            return list(answers)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                status, body = await self._asked(b"[" + b",".join(records) + b"]", deadline, trace)
        except TimeoutError:
            raise Refusal(504, f"{self.name} did not answer in time") from None
        except (OSError, Broken, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Refusal(503, f"{self.name} broke off: {error or type(error).__name__}", AGAIN) from None
        if status != 200:
            raise _passed_on(self.name, status, body)
        return _put_together(answers, _decoded(self.name, body, len(records)))

    async def _asked(self, body: bytes, deadline: float, trace: str) -> tuple[int, bytes]:
        left_ms = max(1, int(1000 * (deadline - time.monotonic())))
        traced = b"traceparent: %s\r\n" % trace.encode() if trace else b""
        sizes = b"%s: %d\r\ncontent-length: %d\r\n\r\n" % (DEADLINE, left_ms, len(body))
        request = b"".join((self._head, traced, sizes, body))
        connection = self._kept() or await self._connected()
        try:
            answer = await _exchanged(connection, request)
        except BaseException:
            connection[1].close()
            raise
        self._keep(connection, answer[2])
        return answer[0], answer[1]

    def _kept(self) -> _Connection | None:
        """One that the other end has not closed since."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not (reader.at_eof() or reader.exception() or writer.is_closing()):
                return reader, writer
            writer.close()
        return None

    async def _connected(self) -> _Connection:
        """Until it works, or patience ends."""
        delays, until = Delays(), time.monotonic() + PATIENCE_S
        while True:
            try:
                connection = await asyncio.open_connection(self._host, self._port, limit=LIMIT_BYTES, ssl=self._tls)
            except ssl.SSLCertVerificationError as error:
                reason = f"this node does not trust its certificate: {error.verify_message}"
                raise Refusal(502, f"{self.name} cannot be asked: {reason}") from None
            except OSError as error:
                if (left_s := until - time.monotonic()) <= 0:
                    reason = error.strerror or type(error).__name__
                    raise Refusal(503, f"{self.name} cannot be reached: {reason}", AGAIN) from None
                await asyncio.sleep(min(delays.next_s(), left_s))
            else:
                connection[1].get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection

    def _keep(self, connection: _Connection, again: bool) -> None:
        if again and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection[1].close()


def encoded(answers: Sequence[Answer], node: str) -> bytes:
    """The other end of the link: what goes back for each record. `node`: where it happened, for people."""
    parts = []
    for answer in answers:
        if isinstance(answer, Failure):
            document = {"stage": answer.stage, "node": node, "reason": answer.reason, "refused": answer.refused}
            parts.append(orjson.dumps(document))
        else:
            parts.append(b'{"results":[' + b",".join(answer) + b"]}")
    return b"[" + b",".join(parts) + b"]"


def records(body: bytes) -> list[bytes]:
    """What came over the link. Raises Refusal."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    if not isinstance(given, list):
        raise bad_request("the body must be a list of records")
    return [orjson.dumps(each) for each in given]


async def _exchanged(connection: _Connection, request: bytes) -> tuple[int, bytes, bool]:
    """Status and body of the answer, and whether the connection may be used again."""
    reader, writer = connection
    writer.write(request)
    await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        raise Broken("the connection ended without an answer") from error
    status, *lines = head[:-4].lower().split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return int(status.split(b" ", 2)[1]), body, fields.get(b"connection") != b"close"


def _decoded(name: str, body: bytes, count: int) -> list[Answer]:
    try:
        found = [_answer(each) for each in orjson.loads(body)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(502, f"{name} makes no sense: {error!r}") from None
    if len(found) != count:
        raise Refusal(502, f"{name} gave {len(found)} answers for {count} records")
    return found


def _answer(document: dict[str, object]) -> Answer:
    results = document.get("results")
    if isinstance(results, list):
        return [orjson.dumps(each) for each in results]
    stage, reason = f"{document['stage']} on {document['node']}", str(document["reason"])
    return Failure(stage, reason, "", b"", 1, 0, bool(document["refused"]))


def _passed_on(name: str, status: int, body: bytes) -> Refusal:
    try:
        reason = str(orjson.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = f"status {status}"
    ours = status if status in (503, 504) else 502
    return Refusal(ours, f"{name}: {reason}", AGAIN if ours == 503 else ())


def _put_together(before: Sequence[Answer], after: Sequence[Answer]) -> list[Answer]:
    """Each record's results may have become several, or failed."""
    place, found = 0, list[Answer]()
    for answer in before:
        if isinstance(answer, Failure):
            found.append(answer)
            continue
        mine = after[place : place + len(answer)]
        place += len(answer)
        failed = next((each for each in mine if isinstance(each, Failure)), None)
        found.append(failed or [result for each in mine if not isinstance(each, Failure) for result in each])
    return found
