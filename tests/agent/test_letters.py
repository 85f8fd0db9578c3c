"""The dead letters of a node, through the stand-in of the runtime's command and the running segment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fogline.agent.letters import DeadLetters, LetterRequest, letters_file, move_former_letters
from fogline.runtimes.letter_file import Letter, LetterFile
from fogline.v1 import agent_coordinator_pb2 as agent
from fogline.wire.terms import CopyState, ErrorKind, FoglineError
from support.agent_builders import RUNTIME, a_spec, a_wish, until
from support.agent_coordinator import FakeCoordinator
from support.agent_parts import a_node, scene

pytestmark = pytest.mark.e2e
LETTER = Letter("clean", "clean", "r", "q", "why", "", 1, "id", b"1")


def letters(state_dir: Path, *numbers: int, segment: str = "clean") -> Path:
    """A file as the stand-in knows it."""
    file = letters_file(state_dir, "plant")
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"number": number, "segment": segment, "stage": segment} for number in numbers]
    file.write_text(json.dumps(json.loads(file.read_text()) + rows if file.exists() else rows))
    return file


async def ask(state_dir: Path, action: str, *numbers: int, pipeline: str = "plant", limit: int = 0) -> list[Any]:
    """Without any copy."""
    office = DeadLetters(state_dir, RUNTIME, lambda _: [])
    wanted = LetterRequest(pipeline, action, numbers, limit)
    return [json.loads(line) async for line in office.answer(wanted)]


def test_listed_shown_and_discarded_without_any_copy(tmp_path: Path) -> None:
    async def life() -> None:
        file = letters(tmp_path, 3, 2, 1)
        assert [row["number"] for row in await ask(tmp_path, "list")] == [3, 2, 1]
        assert [row["number"] for row in await ask(tmp_path, "list", limit=2)] == [3, 2]
        (shown,) = await ask(tmp_path, "show", 2)
        assert (shown["number"], shown["encoding"]) == (2, "utf-8")
        assert await ask(tmp_path, "discard", 2, 3) == [{"discarded": 2}]
        assert [row["number"] for row in await ask(tmp_path, "list")] == [1]
        assert await ask(tmp_path, "purge") == [{"discarded": 1}]
        assert not file.exists()

    scene(life())


def test_letters_of_an_earlier_release_and_of_its_processes(tmp_path: Path) -> None:
    former = tmp_path / "dead-letters" / "plant.db"
    former.parent.mkdir()
    LetterFile(former).keep([LETTER])
    for _ in range(2):
        move_former_letters(tmp_path)
    LetterFile(former).keep([LETTER])  # by a process that goes on under the former name
    assert len(list(LetterFile(letters_file(tmp_path, "plant")).show())) == 2


def test_where_no_letter_ever_was(tmp_path: Path) -> None:
    async def life() -> None:
        assert await ask(tmp_path, "list") == []
        assert await ask(tmp_path, "show", 1) == []
        assert await ask(tmp_path, "discard") == [{"discarded": 0}]
        assert await ask(tmp_path, "purge") == [{"discarded": 0}]
        nothing = {"number": 1, "reason": "there is no such letter"}
        assert await ask(tmp_path, "replay", 1) == [{"replayed": 0, "refused": [nothing]}]
        assert not (tmp_path / "dead-letters").exists()

    scene(life())


@pytest.mark.parametrize("pipeline", ["../state", "", "a/b", "-"])
def test_a_pipeline_is_a_name_and_no_path(tmp_path: Path, pipeline: str) -> None:
    async def life() -> None:
        with pytest.raises(FoglineError, match="is not the id of a pipeline"):
            await ask(tmp_path, "purge", pipeline=pipeline)

    scene(life())


def test_an_unknown_action_and_a_broken_file_are_sentences(tmp_path: Path) -> None:
    async def life() -> None:
        with pytest.raises(FoglineError, match="not for 'burn'"):
            await ask(tmp_path, "burn")
        letters(tmp_path).write_text('"corrupt"')
        for action in ("list", "discard", "purge", "replay"):
            with pytest.raises(FoglineError, match=r"^dead letters: file is not a database$"):
                await ask(tmp_path, action)

    scene(life())


def test_a_replay_goes_to_the_running_segment_of_each_letter(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_spec())
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address, real=True) as node:

            async def told(id_: str, action: str, *numbers: int) -> list[Any]:
                wanted = agent.DeadLetters(pipeline="plant", action=action, letters=numbers)
                coordinator.ask(id=id_, deadline_s=10.0, dead_letters=wanted)
                await until(coordinator.answered(id_), "answered")
                assert [reply.error for reply in coordinator.answers(id_)] == [""] * len(coordinator.answers(id_))
                return [json.loads(line) for reply in coordinator.answers(id_) for line in reply.data.splitlines()]

            letters(node.state_dir, 1, 2, 13)
            file = letters(node.state_dir, 4, segment="other")
            coordinator.desire(1, wish)
            await until(lambda: node.state(wish) is CopyState.READY, "ready")
            reason = "segment other is not on this node; a letter goes to a running segment"
            absent = {"number": 9, "reason": "there is no such letter"}
            assert await told("1", "replay") == [{"replayed": 2, "refused": [{"number": 4, "reason": reason}]}]
            assert await told("2", "replay", 2, 9) == [{"replayed": 1, "refused": [absent]}]
            log = node.supervisor.find(wish.id).workspace.log.read_text()
            assert "replays [1, 2]\n" in log
            assert "replays [2]\n" in log
            assert await told("3", "purge") == [{"discarded": 4}]
            assert file.exists(), "a running process has it open"
            assert await told("4", "list") == []

    scene(life())


def test_many_letters_come_in_pieces(tmp_path: Path) -> None:
    async def life() -> None:
        async with FakeCoordinator().serving() as coordinator, a_node(tmp_path, coordinator.address) as node:
            letters(node.state_dir, *range(200))
            coordinator.ask(id="1", deadline_s=10.0, dead_letters=agent.DeadLetters(pipeline="plant", action="show"))
            await until(coordinator.answered("1"), "answered")
            replies = coordinator.answers("1")
            assert 3 <= len(replies) <= 6
            assert max(len(reply.data) for reply in replies) <= 65536
            lines = b"".join(reply.data for reply in replies).splitlines()
            assert [json.loads(line)["number"] for line in lines] == list(range(200))
            coordinator.ask(id="2", dead_letters=agent.DeadLetters(pipeline="..", action="list"))
            await until(coordinator.answered("2"), "refused")
            assert coordinator.answers("2")[0].error_kind == ErrorKind.INVALID_ARGUMENT

    scene(life())
