"""get, history, diff, events, start and stop as a person types them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from fogline.v1 import common_pb2 as common
from support.conversation import brought_up, obedient, run, until
from support.coord_command import begun, coord
from support.documents import a_pipeline
from support.fake_agent import served

pytestmark = pytest.mark.e2e


def _written(folder: Path, **changes: Any) -> str:
    """The pipeline `p` as a file beside its code."""
    code = folder / "code"
    code.mkdir(exist_ok=True)
    (code / "main.py").write_text("def handler(data):\n    return data\n")
    file = folder / "pipeline.json"
    file.write_text(json.dumps(a_pipeline(**changes)))
    return str(file)


def _dying(assignment: str, spec_digest: str) -> common.CopyObserved:
    counted = common.StageObserved(name="b", counters={"in": 5, "done": 2, "dead_lettered": 3})
    return common.CopyObserved(
        assignment=assignment,
        spec_digest=spec_digest,
        state=common.COPY_STATE_RESTARTING,
        reason="killed by SIGSEGV",
        last_lines="about to fall\nfell\n",
        pid=4711,
        stages=[counted],
    )


def test_a_document_comes_back_and_every_revision_is_listed(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            other = a_pipeline()["pipeline"]
            other["b"]["environment"] = {"A": "1"}
            await brought_up(service, pipeline=other)
            assert (await coord(service, "get", "p")).json == a_pipeline(pipeline=other)
            assert (await coord(service, "get", "p", "--revision", "1")).json == a_pipeline()
            missing = await coord(service, "get", "p", "--revision", "9")
            assert (missing.code, missing.out) == (3, "")
            assert missing.err == "coord: deployment p has no revision 9; `coord history p` lists them\n"
            listed = (await coord(service, "history", "p")).lines
            assert listed[0] == "REVISION SUBMITTED STATE VERDICT"
            assert listed[1].startswith("1 20")
            assert listed[1].endswith("superseded revision 1 is running")
            assert listed[2].startswith("* 2 20")
            rows = (await coord(service, "history", "p", "--output", "json")).json
            assert [(row["revision"], row["state"], row["in_charge"]) for row in rows] == [
                (1, "superseded", False),
                (2, "running", True),
            ]

    run(test())


def test_a_diff_exits_like_diff(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            document = _written(tmp_path)
            new = await coord(service, "diff", document)
            assert (new.code, new.lines[0]) == (1, "--- nothing")
            assert "a new edge -" in new.lines
            submitted = await coord(service, "submit", document)
            assert submitted.code == 0, submitted.err
            again = await coord(service, "submit", document, "--detach")
            assert (again.code, again.lines[-1]) == (0, "pipeline p: unchanged, revision 1 goes on running")
            same = await coord(service, "diff", document)
            assert (same.code, same.out, same.err) == (0, "", "p: nothing differs from revision 1\n")
            other = await coord(service, "diff", document, "--set", "pipeline.b.environment.A=x")
            assert other.code == 1
            assert other.lines[:2] == ["--- p, revision 1", f"+++ {document}"]
            assert [line for line in other.lines if line.startswith("+") and "environment" in line]
            assert {"a kept edge edge", "b restarted edge edge", "c kept edge edge"} <= set(other.lines)
            found = (await coord(service, "diff", document, "--output", "json")).json
            assert (found["equal"], found["document"], found["revision"]) == (True, [], 1)
            refused = await coord(service, "diff", document, "--set", "pipeline.b.infra=mars")
            assert (refused.code, "no node mars has joined" in refused.err) == (4, True)
            assert len((await coord(service, "history", "p", "-o", "json")).json) == 1

    run(test())


def test_a_deployment_is_stopped_started_and_told_of(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge"):
            await brought_up(service)
            runs = await coord(service, "start", "p")
            assert (runs.code, runs.out) == (0, "pipeline p: runs already, revision 1\n")
            stopped = (await coord(service, "stop", "p", "--output", "json")).json
            assert (stopped["state"], stopped["succeeded"]) == ("stopped", True)
            started = await coord(service, "start", "p")
            assert (started.code, started.out) == (0, "pipeline p: running\n"), started.err
            again = await coord(service, "restart", "p", "b")
            assert (again.code, again.out) == (0, "pipeline p: restarted, revision 2 is running\n"), again.err
            told = (await coord(service, "events", "p")).lines
            assert told[0].endswith("p submitted revision 1 submitted")
            assert [line for line in told if "stopped by the operator" in line]
            assert [line for line in told if "started by the operator" in line]
            newest = (await coord(service, "events", "--limit", "1", "--output", "json")).json
            assert [each["deployment"] for each in newest] == ["p"]
            unknown = await coord(service, "events", "q")
            assert (unknown.code, "known: p" in unknown.err) == (3, True)

    run(test())


def test_events_are_followed_until_interrupted(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, begun(service, "events", "-f", "--output", "json") as process:
            assert process.stdout is not None
            async with obedient(service.address, "edge"):
                event = json.loads(await process.stdout.readline())
            assert (event["kind"], event["node"], event["text"]) == ("node", "edge", "joined")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130

    run(test())


def test_a_failed_copy_shows_its_last_words(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "edge") as edge:
            await brought_up(service)
            copy = service.deployments.get("p").target[1]
            await edge.observe(_dying(copy.assignment, copy.spec_digest), generation=99)
            await until("heard", lambda: service.fleet.records["edge"].observed_generation == 99)
            shown = await coord(service, "status", "p")
            assert "b: killed by SIGSEGV" in shown.lines
            assert "b, last lines of its log (`coord logs p b` shows more):" in shown.lines
            assert "    about to fall\n    fell\n" in shown.out
            assert shown.lines[-1] == "3 dead-lettered: `coord dead-letters p list` shows those that are still there"
            row = next(row for row in (await coord(service, "status", "p", "-o", "json")).json["stages"] if row["pid"])
            assert row["last_lines"] == "about to fall\nfell\n"

    run(test())
