"""Dead letters of a deployment, asked of every node that runs or ran it, over a real channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from fogline.wire.errors import KIND_KEY
from support.conversation import answer_requests, obedient, ran_on, run
from support.fake_agent import Served, served

pytestmark = pytest.mark.e2e


def _letter(number: int) -> Callable[[agent.NodeRequest], list[agent.NodeReply]]:
    """The answer of a node that has one dead letter."""
    line = json.dumps({"number": number}).encode() + b"\n"
    return lambda _: [agent.NodeReply(data=line), agent.NodeReply()]


async def _ask(service: Served, action: str, *letters: str, limit: int = 0) -> dict[str, operator.DeadLettersReply]:
    request = operator.DeadLettersRequest(id="p", action=action, letters=letters, limit=limit)
    return {reply.node: reply async for reply in service.operator.DeadLetters(request)}


async def _refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return dict(caught.value.trailing_metadata() or ())[KIND_KEY], caught.value.details() or ""


def test_every_node_is_asked_and_one_that_is_away_hides_no_other(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge", "gone", "moon")
        async with (
            served(tmp_path) as service,
            obedient(service.address, "edge") as edge,
            obedient(service.address, "moon") as moon,
        ):
            answering = [
                asyncio.create_task(answer_requests(fake, _letter(number)))
                for number, fake in enumerate((edge, moon), 1)
            ]
            found = await _ask(service, "list", limit=7)
            requests = [request for each in answering for request in await each]
            assert {each.deadline_s for each in requests} == {0.0}, "of the whole answer, which may be very long"
            asked = [each.dead_letters for each in requests]
            assert {(each.pipeline, each.action, tuple(each.letters), each.limit) for each in asked} == {
                ("p", "list", (), 7)
            }
            assert json.loads(found["edge"].data) == {"number": 1}
            assert json.loads(found["moon"].data) == {"number": 2}
            assert (found["gone"].data, found["gone"].error) == (b"", "node gone is not connected right now")

    run(test())


def test_named_letters_go_to_their_own_nodes_alone(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge", "moon")
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            answering = asyncio.create_task(
                answer_requests(edge, lambda _: [agent.NodeReply(data=b'{"replayed": 2}\n')])
            )
            found = await _ask(service, "replay", "edge/3", "edge/5")
            (asked,) = [request.dead_letters for request in await answering]
            assert (asked.action, list(asked.letters)) == ("replay", [3, 5])
            assert found.keys() == {"edge"}

    run(test())


def test_a_node_that_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            refusal = agent.NodeReply(error_kind="version-mismatch", error="node edge does not know this request")
            answering = asyncio.create_task(answer_requests(edge, lambda _: [refusal]))
            assert (await _ask(service, "list"))["edge"].error == "node edge does not know this request"
            await answering

    run(test())


@pytest.mark.parametrize(
    ("action", "letter", "kind", "word"),
    [
        ("burn", "edge/1", "invalid-argument", "list, show, replay, discard"),
        ("show", "edge", "invalid-argument", "NODE/NUMBER"),
        ("show", "edge/-1", "invalid-argument", "NODE/NUMBER"),
        ("show", "edge/\N{SUPERSCRIPT TWO}", "invalid-argument", "NODE/NUMBER"),
        ("show", "mars/1", "not-found", "it runs or ran on edge"),
    ],
)
def test_what_names_no_letter_is_refused(action: str, letter: str, kind: str, word: str, tmp_path: Path) -> None:
    async def test() -> None:
        ran_on(tmp_path, "edge")
        async with served(tmp_path) as service:
            found, sentence = await _refusal(_ask(service, action, letter))
            assert (found, word in sentence) == (kind, True), sentence

    run(test())
