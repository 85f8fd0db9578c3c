"""WebSocket queues have no broker: one end listens, the other connects. Which shapes that allows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fogline.coordinator.padl.links import End, copies, ends
from fogline.coordinator.padl.model import Document, Queue
from fogline.coordinator.padl.problems import Problem, error, listed, pointer_to, quoted
from fogline.runtimes.options import listens

WEBSOCKET = "websocket"


def listening_problems(document: Document) -> Iterator[Problem]:
    """Several stages at the one end of a queue that only one can be, and two queues that listen on one port."""
    at: dict[tuple[object, object], str] = {}
    for name, queue in document.queues.items():
        if queue.connector != WEBSOCKET:
            continue
        around = [end for end in (*ends(document), *copies(document)) if end.name == name]
        reading = [end for end in around if end.side == "input"]
        writing = [end for end in around if end.side == "output"]
        yield from _several_readers(name, reading, written=bool(writing))
        if listening := _listening(queue, reading, writing):
            yield from _several_writers(name, queue, listening)
            address = (queue.props.get("server"), queue.props.get("port"))
            if address in at and at[address] != name:
                message = f"queues {quoted(at[address])} and {quoted(name)} listen on the same port of {address[0]}"
                yield error(pointer_to("queues", name, "props", "port"), message, "give one of them another port")
            at.setdefault(address, name)


def listening_side(queue: Queue, *, read: bool, written: bool) -> str:
    """`reader` or `writer`: the stages that listen; empty when none does, since a foreign end is connected to."""
    role = queue.props.get("role")
    if read and listens(role, reads=True, read_by_stage=False):
        return "reader"
    return "writer" if written and listens(role, reads=False, read_by_stage=read) else ""


def _listening(queue: Queue, reading: Sequence[End], writing: Sequence[End]) -> Sequence[End]:
    side = listening_side(queue, read=bool(reading), written=bool(writing))
    return {"reader": reading, "writer": writing}.get(side, ())


def _several_readers(name: str, reading: Sequence[End], *, written: bool) -> Iterator[Problem]:
    stages = list(dict.fromkeys(end.stage for end in reading))
    if len(stages) > 1:
        message = f"stages {listed(stages)} all read the WebSocket queue {quoted(name)}, which has one reading end"
        hint = "give each a queue of its own" + (", all of them outputs of the writing stage" if written else "")
        yield error(reading[1].pointer, message, hint)


def _several_writers(name: str, queue: Queue, listening: Sequence[End]) -> Iterator[Problem]:
    stages = list(dict.fromkeys(end.stage for end in listening if end.side == "output"))
    if len(stages) > 1:
        role = f'"role": "{queue.props.get("role")}"'
        message = (
            f"stages {listed(stages)} all write the WebSocket queue {quoted(name)}, and with {role} each would listen"
        )
        yield error(
            listening[1].pointer, message, 'leave "role" out, so that they connect, or give each a queue of its own'
        )
