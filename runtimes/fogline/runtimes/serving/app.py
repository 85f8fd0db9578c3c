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


@dataclass(frozen=True)
class Route:
    """What answers to a path."""

    name: str
    method: bytes
    answer: Callable[[Call], Awaitable[Reply]]
    open: bool = False
    """Needs no token."""


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
        except Refusal as refusal:
            reply = error_reply(refusal)
        except Gone:
            return
        except Exception:  # noqa: BLE001 - this request gets an answer too, and the others theirs
            log.exception("a request to %s failed", route.name if route is not None else "an unknown path")
            reply = error_reply(Refusal(500, "the server failed at this request; its log says why"))
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
            "/predict": Route("predict", b"POST", self._predict),
            "/v2": Route("server", b"GET", self._server),
            "/v2/health/live": Route("health", b"GET", self._live, open=True),
            "/v2/health/ready": Route("health", b"GET", self._ready, open=True),
        }
        for name in self.model.names:
            table[f"/v2/models/{name}"] = Route("model", b"GET", self._metadata)
            table[f"/v2/models/{name}/ready"] = Route("health", b"GET", self._model_ready, open=True)
            table[f"/v2/models/{name}/infer"] = Route("infer", b"POST", self._infer)
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

    async def _predict(self, call: Call) -> Reply:
        check_json(call.headers)
        payloads, listed = plain.records(await body_of(call.receive, self._spec.limit_bytes), self._depth)
        answers = await self._computed(payloads, call) if payloads else []
        body = plain.response(answers, listed)
        return Reply(204) if body is None else Reply(200, body)

    async def _infer(self, call: Call) -> Reply:
        length = json_length(call.headers)
        if length is None:
            check_json(call.headers)
        else:
            check_plain(call.headers)
        request = self._reader.read(await body_of(call.receive, self._spec.limit_bytes), length)
        answers = await self._computed(request.payloads, call)
        body, head = self._writer.write(request, answers, self.model.named())
        if head == len(body):
            return Reply(200, body)
        return Reply(200, body, BINARY, ((JSON_LENGTH, b"%d" % head),))

    async def _forwarded(self, call: Call) -> Reply:
        """From the segment in front of this one; it has the caller, and so the last word on time."""
        left = call.headers.get(forward.DEADLINE, b"")
        if left.isdigit() and len(left) < 10:
            call = call._replace(deadline=min(call.deadline, call.began + int(left) / 1000))
        payloads = forward.records(await body_of(call.receive, self._spec.limit_bytes))
        answers = await self._computed(payloads, call) if payloads else []
        return Reply(200, forward.encoded(answers, self._spec.node or _address(call.scope)))

    async def _computed(self, payloads: list[bytes], call: Call) -> list[Answer]:
        if len(payloads) == 1 and len(payloads[0]) > PAYLOAD_LIMIT_BYTES:
            raise Refusal(413, f"the record has {len(payloads[0])} bytes, the limit is {PAYLOAD_LIMIT_BYTES}")
        answers = await self._turns.answers(payloads, call.deadline)
        if self._next is not None:
            answers = await self._next.answers(answers, call.deadline, trace_of(call.headers.get(forward.TRACE, b"")))
        self._counters.latencies((time.monotonic() - call.began,))
        for answer in answers:
            if isinstance(answer, Failure) and not answer.refused:
                self._log(answer)
        return answers

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


def _address(scope: Scope) -> str:
    """Where this segment was reached."""
    host, port = scope["server"]
    return f"{host}:{port}"
