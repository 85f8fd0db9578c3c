"""The dead letters of a pipeline on this node: listed, shown, discarded and replayed. Knows no gRPC.

The file belongs to the runtime, which alone knows what is in it: `python -m fogline.runtimes dead-letters FILE`
reads and discards, always in the agent's own environment: the one of the pipeline may be gone. A replay goes to the
running segment that the letter is of. The file lies outside every workspace, so that letters outlive their copies;
only `purge` removes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.agent.copies import Copy
from fogline.agent.host.child import child
from fogline.agent.host.control import Silent
from fogline.runtimes.spec import Exit
from fogline.wire.terms import NAME, CopyState, ErrorKind, FoglineError

REPLAY_S = 10.0
_ERROR_BYTES = 2048
ACTIONS = ("list", "show", "replay", "discard", "purge")


@dataclass(frozen=True)
class LetterRequest:
    """What is asked about the letters of one pipeline."""

    pipeline: str
    action: str
    numbers: tuple[int, ...] = ()
    """None: all."""
    limit: int = 0
    """`list` only: the newest so many; 0: all."""


def letters_file(state_dir: Path, pipeline: str) -> Path:
    """Where the segments of a pipeline keep their dead letters: in a folder of its own, which containers are given."""
    return state_dir / "dead-letters" / pipeline / f"{pipeline}.db"


def room_for_letters(state_dir: Path, pipeline: str) -> Path:
    """The same, in a folder that is there and only ours. Raises OSError."""
    file = letters_file(state_dir, pipeline)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return file


def move_former_letters(state_dir: Path) -> None:
    """Earlier releases had no folder for each. Their processes go on under the former name. Raises OSError."""
    for former in (state_dir / "dead-letters").glob("*.db"):
        if not former.is_symlink():
            file = room_for_letters(state_dir, former.stem)
            with contextlib.suppress(FileNotFoundError):  # first: without its journal the file could be half
                former.with_name(f"{former.name}-journal").rename(file.with_name(f"{file.name}-journal"))
            former.rename(file)
            former.symlink_to(Path(former.stem, former.name))


class DeadLetters:
    """Answers requests about letters; `copies` gives the copies of a pipeline that have a process."""

    def __init__(self, state_dir: Path, runtime: tuple[str, ...], copies: Callable[[str], Sequence[Copy]]) -> None:
        self._state_dir = state_dir
        self._runtime = runtime
        self._copies = copies

    async def answer(self, wanted: LetterRequest) -> AsyncGenerator[bytes, None]:
        """JSON objects, one a line. Raises FoglineError when the request cannot be, or the file cannot be read."""
        if not NAME.fullmatch(wanted.pipeline):
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{wanted.pipeline!r} is not the id of a pipeline")
        if wanted.action not in ACTIONS:
            sentence = f"dead letters can be asked for {', '.join(ACTIONS)}, not for {wanted.action!r}"
            raise FoglineError(ErrorKind.INVALID_ARGUMENT, sentence)
        file = letters_file(self._state_dir, wanted.pipeline)
        if wanted.action == "replay":
            yield _line(await self._replay(file, wanted))
        elif wanted.action == "purge":
            yield _line(await self._purge(file, wanted.pipeline))
        elif not file.exists():
            if wanted.action == "discard":
                yield _line({"discarded": 0})
        else:
            limit = ["--limit", str(wanted.limit)] if wanted.action == "list" and wanted.limit else []
            numbers = [] if wanted.action == "list" else [str(number) for number in wanted.numbers]
            async with aclosing(self._run(file, wanted.action, *limit, *numbers)) as lines:
                async for line in lines:
                    yield line

    async def _replay(self, file: Path, wanted: LetterRequest) -> dict[str, Any]:
        """Hand the letters to the running copies of their segments."""
        by_segment, refused = await self._by_segment(file, wanted.numbers)
        replayed = 0
        for segment, numbers in by_segment.items():
            try:
                replayed += await self._hand_over(wanted.pipeline, segment, numbers)
            except FoglineError as error:
                refused += [{"number": number, "reason": error.sentence} for number in numbers]
        return {"replayed": replayed, "refused": refused}

    async def _by_segment(
        self, file: Path, numbers: Sequence[int]
    ) -> tuple[dict[str, list[int]], list[dict[str, Any]]]:
        segments: dict[int, str] = {}
        if file.exists():
            async with aclosing(self._run(file, "list")) as lines:
                async for line in lines:
                    row = json.loads(line)
                    segments[int(row["number"])] = str(row["segment"])
        by_segment: dict[str, list[int]] = {}
        refused = []
        for number in numbers or sorted(segments):
            if number in segments:
                by_segment.setdefault(segments[number], []).append(number)
            else:
                refused.append({"number": number, "reason": "there is no such letter"})
        return by_segment, refused

    async def _hand_over(self, pipeline: str, segment: str, numbers: list[int]) -> int:
        found = [copy for copy in self._copies(pipeline) if copy.wish.id.split("/")[1] == segment]
        copy = next((each for each in found if each.state is CopyState.READY and each.control), None)
        if copy is None or copy.control is None:
            state = found[0].state if found else "not on this node"
            raise FoglineError(ErrorKind.FAILED, f"segment {segment} is {state}; a letter goes to a running segment")
        try:
            answer = await copy.control.call("replay", timeout_s=REPLAY_S, letters=numbers)
        except Silent as error:
            sentence = f"segment {segment} does not answer on this node: {error}"
            raise FoglineError(ErrorKind.UNREACHABLE, sentence) from error
        return int(answer.get("accepted", 0))

    async def _purge(self, file: Path, pipeline: str) -> dict[str, Any]:
        """All of them; the file too, unless a process still has it open."""
        if not file.exists():
            return {"discarded": 0}
        async with aclosing(self._run(file, "purge")) as lines:
            said = [json.loads(line) async for line in lines]
        if not self._copies(pipeline):
            for path in (file, file.with_name(file.name + "-journal")):
                path.unlink(missing_ok=True)
        return {"discarded": sum(int(each.get("discarded", 0)) for each in said)}

    async def _run(self, file: Path, *arguments: str) -> AsyncGenerator[bytes, None]:
        """Lines of the runtime's command. Raises FoglineError with its last words when it does not end well."""
        command = [*self._runtime, "dead-letters", str(file), *arguments]
        with tempfile.TemporaryFile() as errors:
            async with child(command, file.parent, {}, errors=errors) as process:
                assert process.stdout is not None
                while line := await process.stdout.readline():
                    yield line
                code = await process.wait()
            if code != Exit.DONE:
                raise FoglineError(ErrorKind.FAILED, await asyncio.to_thread(_last_words, errors, code))


def _last_words(errors: Any, code: int) -> str:
    errors.seek(0, 2)
    errors.seek(max(0, errors.tell() - _ERROR_BYTES))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return (
        lines[-1].partition(" ERROR ")[2] or lines[-1] if lines else f"reading dead letters ended with exit code {code}"
    )


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
