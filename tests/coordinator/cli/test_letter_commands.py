"""Dead letters as a person sees them: rows, whole letters, refusals, and what the exit code says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.cli.moments import shown
from fogline.v1 import agent_coordinator_pb2 as agent
from support.conversation import answer_requests, obedient, ran_on, run
from support.coord_command import Done, coord
from support.fake_agent import FakeAgent, Served, served

pytestmark = pytest.mark.e2e

LETTER: dict[str, Any] = {
    "segment": "a", "stage": "a", "queue": "q1", "reason": "KeyError: 'n'", "attempts": 4, "first_at": 1769860800.0,
    "last_at": 1769860860.0, "size_bytes": 8, "id": "abc",
}  # fmt: skip


def _letters(*numbers: int, **more: Any) -> list[agent.NodeReply]:
    """A node's answer, cut in the middle of a line as a stream may cut it."""
    rows = [LETTER | {"number": number, "last_at": LETTER["last_at"] + number} | more for number in numbers]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return [agent.NodeReply(data=lines[:40]), agent.NodeReply(data=lines[40:])]


async def _answered(
    service: Served, fake: FakeAgent, replies: list[agent.NodeReply], *arguments: str
) -> tuple[Done, agent.DeadLetters]:
    answering = asyncio.create_task(answer_requests(fake, lambda _: replies))
    done = await coord(service, "dead-letters", "p", *arguments)
    (asked,) = await answering
    return done, asked.dead_letters


def test_the_list_is_newest_first_and_a_missing_node_shows_in_the_exit_code(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge", "gone")
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            done, asked = await _answered(service, edge, _letters(1, 2), "list", "--limit", "5")
            assert (asked.action, asked.limit) == ("list", 5)
            assert done.lines == [
                "LETTER STAGE QUEUE ATTEMPTS LAST BYTES REASON",
                f"edge/2 a q1 4 {shown(LETTER['last_at'] + 2)} 8 KeyError: 'n'",
                f"edge/1 a q1 4 {shown(LETTER['last_at'] + 1)} 8 KeyError: 'n'",
            ]
            assert (done.code, done.err) == (8, "coord: node gone: node gone is not connected right now\n")

    run(test())


def test_a_letter_is_shown_whole_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            whole = _letters(3, payload='{"x": 1}', encoding="utf-8", trace="Traceback\n  main.py line 2")
            done, asked = await _answered(service, edge, whole, "show", "edge/3", "edge/4")
            assert list(asked.letters) == [3, 4]
            assert (done.code, done.err) == (3, "coord: there is no dead letter edge/4\n")
            assert done.lines == [
                "edge/3: KeyError: 'n'",
                "failed in a of segment a, came from queue q1 as abc",
                f"4 attempts, first {shown(LETTER['first_at'])}, last {shown(LETTER['last_at'] + 3)}",
                "Traceback",
                "main.py line 2",
                "payload, 8 bytes:",
                '{"x": 1}',
            ]
            binary = _letters(3, payload="//4=", encoding="base64", trace="")
            rows = (await _answered(service, edge, binary, "show", "edge/3", "-o", "json"))[0].json
            assert [(row["letter"], row["node"], row["payload"], row["encoding"]) for row in rows] == [
                ("edge/3", "edge", "//4=", "base64")
            ]

    run(test())


def test_a_letter_that_was_not_taken_is_said_and_fails_the_command(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            answer = {"replayed": 1, "refused": [{"number": 2, "reason": "segment a is failed"}]}
            replies = [agent.NodeReply(data=json.dumps(answer).encode() + b"\n")]
            done, _ = await _answered(service, edge, replies, "replay", "edge/1", "edge/2")
            assert done.code == 5
            assert done.out == "edge: 1 handed to their segments; `list` shows those that fail again\n"
            assert done.err == "coord: edge/2 was not replayed: segment a is failed\n"
            replies = [agent.NodeReply(data=b'{"discarded": 1}\n')]
            done, _ = await _answered(service, edge, replies, "discard", "edge/1", "edge/2")
            assert (done.code, done.out) == (3, "edge: 1 discarded\n")
            assert done.err == "coord: only 1 of 2 dead letters were there on edge\n"
            done, asked = await _answered(service, edge, replies, "discard", "--all")
            assert (done.code, done.err, list(asked.letters)) == (0, "", [])

    run(test())


@pytest.mark.parametrize("arguments", [("replay",), ("discard",), ("discard", "edge/1", "--all")])
def test_every_letter_is_touched_only_on_demand(arguments: tuple[str, ...], tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service:
            done = await coord(service, "dead-letters", "p", *arguments)
            assert (done.code, "NODE/NUMBER, or say --all" in done.err) == (2, True), done.err

    run(test())
