from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from fogline.runtimes.serving.chain import Answer
from fogline.runtimes.serving.refusals import Refusal
from fogline.runtimes.serving.turns import Turns

T = TypeVar("T")


class Echo:
    """Answers each record with itself, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []

    def __call__(self, payloads: Sequence[bytes]) -> list[Answer]:
        self.batches.append(list(payloads))
        return [[payload] for payload in payloads]


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 10))


def soon() -> float:
    return time.monotonic() + 60


def test_what_arrives_in_one_turn_is_one_batch() -> None:
    echo = Echo()

    async def work() -> list[list[Answer]]:
        turns = Turns(echo, 256, 1024)
        first = await asyncio.gather(*(turns.answers([b"%d" % number], soon()) for number in range(5)))
        second = await turns.answers([b"alone"], soon())
        assert (turns.waiting, turns.batches, turns.computed) == (0, 2, 6)
        return [*first, second]

    assert run(work()) == [[[b"%d" % number]] for number in range(5)] + [[[b"alone"]]]
    assert echo.batches == [[b"0", b"1", b"2", b"3", b"4"], [b"alone"]]


def test_a_large_request_is_computed_in_parts_and_put_together() -> None:
    echo = Echo()

    async def work() -> list[list[Answer]]:
        turns = Turns(echo, 4, 1024)
        large = [b"%d" % number for number in range(10)]
        return list(await asyncio.gather(turns.answers(large, soon()), turns.answers([b"small"], soon())))

    large, small = run(work())
    assert large == [[b"%d" % number] for number in range(10)]
    assert small == [[b"small"]]
    assert [len(batch) for batch in echo.batches] == [4, 4, 3]


def test_a_full_queue_says_when_to_come_again_and_an_empty_one_takes_any_request() -> None:
    async def work() -> list[Any]:
        turns = Turns(Echo(), 4, 6)
        asked = [turns.answers([b"x"] * count, soon()) for count in (5, 1, 1)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [*found, await turns.answers([b"x"] * 7, soon())]

    first, second, third, last = run(work())
    assert (len(first), len(second), len(last)) == (5, 1, 7)
    assert isinstance(third, Refusal)
    assert (third.status, third.headers) == (503, ((b"retry-after", b"1"),))


def test_what_waited_too_long_is_not_computed() -> None:
    echo = Echo()

    async def work() -> list[Any]:
        turns = Turns(echo, 2, 100)
        late = turns.answers([b"late"] * 3, time.monotonic() - 1)
        found = await asyncio.gather(turns.answers([b"a"], soon()), late, return_exceptions=True)
        assert turns.waiting == 0
        return list(found)

    good, late = run(work())
    assert good == [[b"a"]]
    assert isinstance(late, Refusal)
    assert late.status == 504
    assert echo.batches == [[b"a"]]


def test_an_error_of_ours_reaches_all_that_wait_for_that_batch_and_nobody_else() -> None:
    batches = list[int]()

    def broken_once(payloads: Sequence[bytes]) -> list[Answer]:
        batches.append(len(payloads))
        if len(batches) == 1:
            raise RuntimeError("ours")
        return [[payload] for payload in payloads]

    async def work() -> list[Any]:
        turns = Turns(broken_once, 2, 100)
        asked = [turns.answers(records, soon()) for records in ([b"a"], [b"b"] * 3, [b"c"])]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, second, third = run(work())
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert third == [[b"c"]]


def test_a_caller_that_is_cancelled_is_passed_over() -> None:
    echo = Echo()

    async def work() -> list[Answer]:
        turns = Turns(echo, 4, 100)
        task = asyncio.create_task(turns.answers([b"gone"], soon()))
        other = asyncio.create_task(turns.answers([b"here"], soon()))
        await asyncio.sleep(0)
        task.cancel()
        found = await other
        with pytest.raises(asyncio.CancelledError):
            await task
        return found

    assert run(work()) == [[b"here"]]


def test_one_who_cannot_be_told_keeps_no_answer_from_the_others() -> None:
    told = list[object]()

    def fails(_outcome: object) -> None:
        raise OSError("gone")

    async def work() -> list[Answer]:
        turns = Turns(Echo(), 4, 100)
        turns.put([b"gone"], soon(), fails)
        turns.put([b"here"], soon(), told.append)
        return await turns.answers([b"too"], soon())

    assert run(work()) == [[b"too"]]
    assert told == [[[b"here"]]]
