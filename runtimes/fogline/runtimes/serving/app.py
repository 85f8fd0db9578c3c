"""The ASGI application: routes, limits, and what a caller is told when something is wrong.

No framework: the way of an inference is a dictionary look-up, the body, a place in the next batch, the answer.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fogline.runtimes.codecs import PAYLOAD_LIMIT_BYTES
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import Failure
from fogline.runtimes.logs import log
from fogline.runtimes.message import trace_of
from fogline.runtimes.serving import forward, metrics, plain
from fogline.runtimes.serving.chain import Answer, Chain
from fogline.runtimes.serving.http import (
    BINARY,
    JSON_LENGTH,
    Gone,
    Receive,
    Reply,
    Scope,
    Send,
    body_of,
    check_json,
    check_plain,
    check_token,
    error_reply,
    json_length,
    json_reply,
    send_reply,
)
from fogline.runtimes.serving.inference import Reader, Writer
from fogline.runtimes.serving.model import Model
from fogline.runtimes.serving.refusals import Refusal
from fogline.runtimes.serving.turns import Turns
from fogline.runtimes.spec import ServingSpec

LOG_EVERY_S = 1.0


class Call(NamedTuple):
    """One request on its way through a route."""

    scope: Scope
    receive: Receive
    headers: Mapping[bytes, bytes]
    began: float
    deadline: float


Write = Callable[[list[Answer]], Reply]
Read = Callable[[Mapping[bytes, bytes], bytes], tuple[list[bytes], Write]]
"""From headers and body to the records, and what makes a reply of their answers. Raises Refusal."""


@dataclass(frozen=True)
class Route:
    """What answers to a path."""

    name: str
    method: bytes
    answer: Callable[[Call], Awaitable[Reply]]
    open: bool = False
    """Needs no token."""
    read: Read | None = None
    """Of a request for an inference."""


class Application:
    """Belongs to the loop's thread, but for `revision` and `ready`."""

    def __init__(self, spec: ServingSpec, chain: Chain, turns: Turns, counters: Counters, token: str) -> None:
        self.ready = True
        """False while draining: balancers are to look elsewhere."""
        self.requests = metrics.Requests()
        self.model = Model(spec, chain)
        self._spec = spec
        self._turns, self._counters = turns, counters
        self._token = token.encode()
        self._depth = plain.depth_of(chain.first.signature())
        self._next = forward.Next(spec.forward, token, spec.onward) if spec.forward else None
        self._reader, self._writer = Reader(chain.first), Writer(None if spec.forward else chain.last)
        self._logged_at = -LOG_EVERY_S
        self._routes = self._table()
        self.limit_bytes = spec.limit_bytes
        """Of a body."""
        self.short: Mapping[bytes, Route] = {
            path.encode(): route for path, route in self._routes.items() if route.read and self._next is None
        }
        """The routes of `ask`."""

    def ask(self, route: Route, headers: Mapping[bytes, bytes], body: bytes, reply: Callable[[Reply], None]) -> None:
        """The short way of a request that is here as a whole: as `__call__`, without a task and its awaiting, which
        cost more than all else that is done for it. `route`: one of `short`."""
        began = time.monotonic()

        def told(outcome: list[Answer] | Exception) -> None:
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                answer = write(outcome)
            except Exception as error:  # noqa: BLE001 - this request gets an answer too, and the others theirs
                answer = _failed(route.name, error)
            reply(answer)  # the caller waits for nothing that is only for us
            if not isinstance(outcome, Exception):
                self._count(outcome, began)
            self.requests.answered(route.name, answer.status, time.monotonic() - began)

        try:
            if self._token and not route.open:
                check_token(headers, self._token)
            assert route.read is not None
            payloads, write = route.read(headers, body)
            if payloads:
                _check_size(payloads)
                self._turns.put(payloads, began + self._spec.timeout_s, told)
                return
        except Exception as error:  # noqa: BLE001 - as above
            told(error)
        else:
            told([])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        began = time.monotonic()
        route = self._routes.get(scope["path"])
        try:
            if route is None:
                route = self._versioned(scope["path"])
            reply = await self._answered(
                route, Call(scope, receive, dict(scope["headers"]), began, began + self._spec.timeout_s)
            )
        except Gone:
            return
        except Exception as error:  # noqa: BLE001 - this request gets an answer too, and the others theirs
            reply = _failed(route.name if route is not None else "an unknown path", error)
        await send_reply(send, reply)
        self.requests.answered(route.name if route is not None else "none", reply.status, time.monotonic() - began)

    async def _answered(self, route: Route, call: Call) -> Reply:
        method = call.scope["method"].encode()
        if method != route.method and not (method == b"HEAD" and route.method == b"GET"):
            allowed = b"GET, HEAD" if route.method == b"GET" else route.method
            raise Refusal(405, f"only {allowed.decode()} here", ((b"allow", allowed),))
        if self._token and not route.open:
            check_token(call.headers, self._token)
        return await route.answer(call)

    def _table(self) -> dict[str, Route]:
        table = {
            "/": Route("page", b"GET", self._page, open=True),
            "/health": Route("health", b"GET", self._health, open=True),
            "/metrics": Route("metrics", b"GET", self._metrics),
            "/openapi.json": Route("openapi", b"GET", self._openapi),
            forward.PATH: Route("forward", b"POST", self._forwarded),
            "/predict": self._inference("predict", self._read_predict),
            "/v2": Route("server", b"GET", self._server),
            "/v2/health/live": Route("health", b"GET", self._live, open=True),
            "/v2/health/ready": Route("health", b"GET", self._ready, open=True),
        }
        for name in self.model.names:
            table[f"/v2/models/{name}"] = Route("model", b"GET", self._metadata)
            table[f"/v2/models/{name}/ready"] = Route("health", b"GET", self._model_ready, open=True)
            table[f"/v2/models/{name}/infer"] = self._inference("infer", self._read_infer)
        return table

    def _versioned(self, path: str) -> Route:
        """`.../versions/V` is the model when it is in that version. Raises Refusal."""
        parts = path.rstrip("/").split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
            if parts[3] not in self.model.names:
                raise Refusal(404, f"there is no model {parts[3][:80]!r}: it is {self.model.names[0]!r}")
            if len(parts) > 5 and parts[4] == "versions":
                if parts[5] != self.model.revision:
                    there = self.model.revision or "without a version"
                    raise Refusal(404, f"there is no version {parts[5][:80]!r} of {parts[3]!r}: it is {there}")
                parts[4:6] = []
        found = self._routes.get("/".join(parts))
        if found is None:
            raise Refusal(404, "there is nothing at this path; /openapi.json says what there is")
        return found

    # The inference ---------------------------------------------------------------------------------

    def _inference(self, name: str, read: Read) -> Route:
        async def answer(call: Call) -> Reply:
            payloads, write = read(call.headers, await body_of(call.receive, self._spec.limit_bytes))
            return write(await self._computed(payloads, call) if payloads else [])

        return Route(name, b"POST", answer, read=read)

    def _read_predict(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[list[bytes], Write]:
        check_json(headers)
        payloads, listed = plain.records(body, self._depth)

        def write(answers: list[Answer]) -> Reply:
            written = plain.response(answers, listed)
            return Reply(204) if written is None else Reply(200, written)

        return payloads, write

    def _read_infer(self, headers: Mapping[bytes, bytes], body: bytes) -> tuple[list[bytes], Write]:
        length = json_length(headers)
        if length is None:
            check_json(headers)
        else:
            check_plain(headers)
        request = self._reader.read(body, length)

        def write(answers: list[Answer]) -> Reply:
            written, head = self._writer.write(request, answers, self.model.named())
            if head == len(written):
                return Reply(200, written)
            return Reply(200, written, BINARY, ((JSON_LENGTH, b"%d" % head),))

        return request.payloads, write

    async def _forwarded(self, call: Call) -> Reply:
        """From the segment in front of this one; it has the caller, and so the last word on time."""
        left = call.headers.get(forward.DEADLINE, b"")
        if left.isdigit() and len(left) < 10:
            call = call._replace(deadline=min(call.deadline, call.began + int(left) / 1000))
        payloads = forward.records(await body_of(call.receive, self._spec.limit_bytes))
        answers = await self._computed(payloads, call) if payloads else []
        return Reply(200, forward.encoded(answers, self._spec.node or _address(call.scope)))

    async def _computed(self, payloads: list[bytes], call: Call) -> list[Answer]:
        _check_size(payloads)
        answers = await self._turns.answers(payloads, call.deadline)
        if self._next is not None:
            answers = await self._next.answers(answers, call.deadline, trace_of(call.headers.get(forward.TRACE, b"")))
        self._count(answers, call.began)
        return answers

    def _count(self, answers: list[Answer], began: float) -> None:
        if not answers:
            return
        self._counters.latencies((time.monotonic() - began,))
        for answer in answers:
            if isinstance(answer, Failure) and not answer.refused:
                self._log(answer)

    def _log(self, failure: Failure) -> None:
        """There is no dead letter of it: the log alone keeps the trace, of one failure a second."""
        now = time.monotonic()
        if now - self._logged_at >= LOG_EVERY_S:
            self._logged_at = now
            log.warning("stage %s failed: %s", failure.stage, failure.trace or failure.reason)

    # What else there is ----------------------------------------------------------------------------

    async def _health(self, _call: Call) -> Reply:
        return json_reply({"state": "ready" if self.ready else "draining"}, self._status)

    async def _live(self, _call: Call) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, _call: Call) -> Reply:
        return json_reply({"ready": self.ready}, self._status)

    async def _model_ready(self, _call: Call) -> Reply:
        return json_reply({"name": self.model.names[0], "ready": self.ready}, self._status)

    @property
    def _status(self) -> int:
        return 200 if self.ready else 503

    async def _server(self, _call: Call) -> Reply:
        return json_reply(self.model.server())

    async def _metadata(self, _call: Call) -> Reply:
        return json_reply(self.model.metadata())

    async def _openapi(self, _call: Call) -> Reply:
        return json_reply(self.model.openapi(secured=bool(self._token)))

    async def _page(self, _call: Call) -> Reply:
        return self.model.page(secured=bool(self._token))

    async def _metrics(self, _call: Call) -> Reply:
        turns = self._turns
        waiting = metrics.single("fogline_waiting_records", "gauge", "Records that wait for their turn.", turns.waiting)
        batches = metrics.single("fogline_batches_total", "counter", "Batches computed.", turns.batches)
        records = metrics.single("fogline_batched_records_total", "counter", "Records in them.", turns.computed)
        ready = metrics.single("fogline_ready", "gauge", "1 while requests are welcome.", int(self.ready))
        counted = metrics.stages(self._counters.snapshot())
        body = metrics.text(self.requests.lines(), counted, waiting, batches, records, ready)
        return Reply(200, body, metrics.TYPE)


def _check_size(payloads: list[bytes]) -> None:
    if len(payloads) == 1 and len(payloads[0]) > PAYLOAD_LIMIT_BYTES:
        raise Refusal(413, f"the record has {len(payloads[0])} bytes, the limit is {PAYLOAD_LIMIT_BYTES}")


def _failed(what: str, error: Exception) -> Reply:
    """What the caller is told of it."""
    if isinstance(error, Refusal):
        return error_reply(error)
    log.error("a request to %s failed", what, exc_info=error)
    return error_reply(Refusal(500, "the server failed at this request; its log says why"))


def _address(scope: Scope) -> str:
    """Where this segment was reached."""
    host, port = scope["server"]
    return f"{host}:{port}"
