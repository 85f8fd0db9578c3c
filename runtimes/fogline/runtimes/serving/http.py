"""The HTTP of the application, as far as ASGI leaves it to us: bodies in, replies out."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import orjson

from fogline.runtimes.serving.refusals import Refusal, bad_request

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
BINARY = b"application/octet-stream"
JSON_LENGTH = b"inference-header-content-length"
CLOSE = ((b"connection", b"close"),)


class Gone(Exception):
    """The caller hung up before the request was whole."""


class Reply(NamedTuple):
    """What goes back."""

    status: int
    body: bytes = b""
    type: bytes = JSON
    headers: Headers = ()


def json_reply(document: Any, status: int = 200) -> Reply:
    """A document for machines."""
    return Reply(status, orjson.dumps(document))


def error_reply(refusal: Refusal) -> Reply:
    """`{"error": ...}`, as the Open Inference Protocol has it."""
    return Reply(refusal.status, orjson.dumps({"error": refusal.reason}), JSON, refusal.headers)


async def send_reply(send: Send, reply: Reply) -> None:
    """Status, headers and body."""
    headers = list(reply.headers)
    if reply.status != 204:
        headers += ((b"content-type", reply.type), (b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def body_of(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises Refusal above the limit, Gone when it does not come."""
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message["body"]
        if len(body) > limit:
            raise _too_large(limit)
        return body
    parts, size = list[bytes](), 0
    while message["type"] == "http.request":
        parts.append(message["body"])
        size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise Gone


def check_json(headers: Mapping[bytes, bytes]) -> None:
    """That the body is said to be JSON, or nothing is said of it, as some clients do. A page of somebody else's can
    send neither without asking: its browser gives the page's origin.

    Raises Refusal.
    """
    given = headers.get(b"content-type")
    if given == JSON and b"content-encoding" not in headers:
        return
    if given != JSON:
        said = JSON if given is None and b"origin" not in headers else given or b""
        if said.split(b";")[0].strip().lower() != JSON:
            raise Refusal(415, "the body must be JSON: send Content-Type: application/json")
    check_plain(headers)


def check_plain(headers: Mapping[bytes, bytes]) -> None:
    """That the body is not compressed. Raises Refusal."""
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise Refusal(415, "compressed bodies are not read here: send it without Content-Encoding")


def json_length(headers: Mapping[bytes, bytes]) -> int | None:
    """What the binary tensor extension says of the body. Raises Refusal."""
    given = headers.get(JSON_LENGTH)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 18:
        raise bad_request("Inference-Header-Content-Length must be a number of bytes")
    return int(given)


def check_token(headers: Mapping[bytes, bytes], token: bytes) -> None:
    """That the caller may call. Raises Refusal."""
    given = headers.get(b"authorization", b"")
    scheme, _, brought = given.partition(b" ")
    if scheme.lower() != b"bearer" or not hmac.compare_digest(brought.strip(), token):
        reason = "a token is needed: send Authorization: Bearer TOKEN"
        raise Refusal(401, reason, ((b"www-authenticate", b"Bearer"),))


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit} bytes", CLOSE)
