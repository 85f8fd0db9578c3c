"""`coord logs` as a person sees it: pieces of several segments, notices, refusals."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fogline.coordinator.cli.logs import LogPrinter
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.v1 import operator_coordinator_pb2 as operator
from support.conversation import brought_up, obedient, requests_of, run
from support.coord_command import begun
from support.fake_agent import served

A = operator.LogsReply(segment="a", node="edge", data=b"one\ntwo\n")
B = operator.LogsReply(segment="b", node="moon", data=b"\xff three\n")
REFUSED = operator.LogsReply(segment="c", node="mars", error_kind="unreachable", error="node mars is not connected")


def test_segment_by_segment_under_a_heading_on_stderr(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    printer = LogPrinter(merged=False, prefix=True, json_=False)
    for reply in (A, A, B, REFUSED):
        printer.take(reply)
    assert printer.end() == 8
    out, err = capsysbinary.readouterr()
    assert out == b"one\ntwo\none\ntwo\n\xff three\n", "exactly as it was printed"
    assert err == b"==> a on edge\n==> b on moon\ncoord: c on mars: node mars is not connected\n"


def test_merged_lines_begin_with_their_segment(capsys: pytest.CaptureFixture[str]) -> None:
    printer = LogPrinter(merged=True, prefix=True, json_=False)
    for reply in (A, B, operator.LogsReply(segment="a", node="edge", notice="node edge is away"), A):
        printer.take(reply)
    assert printer.end() == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["a | one", "a | two", "b | \ufffd three", "a | one", "a | two"]
    assert err == "==> node edge is away\n"


def test_for_tools_one_document_or_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    printer = LogPrinter(merged=False, prefix=True, json_=True)
    for reply in (A, A, REFUSED):
        printer.take(reply)
    assert printer.end() == 8
    rows = json.loads(capsys.readouterr().out)
    assert [(row["segment"], row["log"], row["error"]) for row in rows] == [
        ("a", "one\ntwo\none\ntwo\n", ""),
        ("c", "", "node mars is not connected"),
    ]
    merged = LogPrinter(merged=True, prefix=True, json_=True)
    merged.take(A)
    assert merged.end() == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"segment": "a", "node": "edge", "line": word} for word in ("one", "two")]


@pytest.mark.e2e
def test_following_goes_over_an_agent_restart(tmp_path: Path) -> None:
    async def test() -> None:
        async with AsyncExitStack() as stack:
            service = await stack.enter_async_context(served(tmp_path))
            async with obedient(service.address, "edge") as edge:
                await brought_up(service)
                process = await stack.enter_async_context(begun(service, "logs", "p", "a", "-f", "--tail", "1"))
                assert process.stdout is not None
                assert process.stderr is not None
                call = await requests_of(edge)
                request = await call.read()
                assert (request.logs.tail_lines, request.logs.follow) == (1, True)
                await call.write(agent.NodeReply(id=request.id, data=b"one\n"))
                assert await process.stdout.readline() == b"one\n"
            said = await process.stderr.readline()
            assert said == b"==> node edge is away; reading goes on when it is back\n"
            async with obedient(service.address, "edge") as edge:
                assert await process.stderr.readline() == b"==> node edge is back\n"
                call = await requests_of(edge)
                await call.write(agent.NodeReply(id=(await call.read()).id, data=b"one\ntwo\n"))
                assert await process.stdout.readline() == b"two\n"

    run(test())
