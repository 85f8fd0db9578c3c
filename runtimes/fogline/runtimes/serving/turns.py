"""Requests become batches: all that arrived in one turn of the loop are computed together, at the end of the turn.

A request that comes alone waits for nobody. While a batch is computed others arrive, and are the next one.
It is computed in the loop's own thread: handing it to another one and back costs more than a fast model does.
"""

from __future__ import annotations

import asyncio
import collections
import functools
import time
from collections.abc import Callable, Sequence

from fogline.runtimes.logs import log
from fogline.runtimes.serving.chain import Answer
from fogline.runtimes.serving.refusals import Refusal

RETRY_AFTER = ((b"retry-after", b"1"),)


Told = Callable[[list[Answer] | Exception], None]
"""Is called once: with an answer for each record, or with the reason why there is none."""


class _Request:
    """The records of one request, and what is known of them so far."""

    __slots__ = ("answers", "deadline", "over", "payloads", "told")

    def __init__(self, payloads: Sequence[bytes], deadline: float, told: Told) -> None:
        self.payloads = payloads
        self.deadline = deadline
        self.told = told
        self.answers: list[Answer] = []
        self.over = False

    def end(self, outcome: list[Answer] | Exception) -> None:
        """The first outcome is the only one."""
        if not self.over:
            self.over = True
            try:
                self.told(outcome)
            except Exception:  # noqa: BLE001 - a defect of ours in one reply; the others wait for theirs
                log.exception("an answer could not be given")


class Turns:
    """The bounded queue in front of the chain. Belongs to the loop's thread."""

    def __init__(self, run: Callable[[Sequence[bytes]], list[Answer]], batch: int, bound: int) -> None:
        """`batch`: most records in one call of `run`; `bound`: most that may wait."""
        self.waiting = 0
        """Records."""
        self.batches = 0
        self.computed = 0
        """Records."""
        self._run = run
        self._batch = batch
        self._bound = bound
        self._requests: collections.deque[_Request] = collections.deque()
        self._scheduled = False

    async def answers(self, payloads: Sequence[bytes], deadline: float) -> list[Answer]:
        """One answer for each record. Raises what `put` raises and tells."""
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.put(payloads, deadline, functools.partial(_tell, future))
        return await future

    def put(self, payloads: Sequence[bytes], deadline: float, told: Told) -> None:
        """Queue the records, at least one. `deadline`: by the monotonic clock; a turn that did not come by then is told
        as a Refusal, 504. `told` is not called before this returns.

        Raises Refusal, 503, when the queue is full.
        """
        if self.waiting and self.waiting + len(payloads) > self._bound:
            reason = f"{self.waiting} records are waiting already, at most {self._bound} may: try again later"
            raise Refusal(503, reason, RETRY_AFTER)
        self._requests.append(_Request(payloads, deadline, told))
        self.waiting += len(payloads)
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """One batch; what is left gets the next turn, after the loop has looked at its connections."""
        taken = self._take(time.monotonic())
        self._scheduled = bool(self._requests)
        if self._scheduled:
            loop.call_soon(self._turn, loop)
        payloads = [payload for request, begin, end in taken for payload in request.payloads[begin:end]]
        if payloads:
            self.batches += 1
            self.computed += len(payloads)
            try:
                answers = self._run(payloads)
            except Exception as error:  # noqa: BLE001 - the waiting must learn of it, and the loop goes on
                for request, _, _ in taken:
                    request.end(error)
                return
            _deal(taken, answers)

    def _take(self, now: float) -> list[tuple[_Request, int, int]]:
        """The next requests, with the places of the records to compute now."""
        taken: list[tuple[_Request, int, int]] = []
        room, requests = self._batch, self._requests
        while requests and room:
            request = requests[0]
            begin, all_ = len(request.answers), len(request.payloads)
            end = min(all_, begin + room)
            if request.deadline <= now or request.over:
                request.end(Refusal(504, "its turn did not come within the time limit"))
                end = all_
            else:
                taken.append((request, begin, end))
                room -= end - begin
            self.waiting -= end - begin
            if end == all_:
                requests.popleft()
        return taken


def _deal(taken: Sequence[tuple[_Request, int, int]], answers: list[Answer]) -> None:
    place = 0
    for request, begin, end in taken:
        request.answers += answers[place : place + end - begin]
        place += end - begin
        if end == len(request.payloads):
            request.end(request.answers)


def _tell(future: asyncio.Future[list[Answer]], outcome: list[Answer] | Exception) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
