"""Formats at the edges of the graph; the rest is tested through the pump."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fogline.runtimes.assembly import topological
from fogline.runtimes.codecs import decode_bytes, decode_text
from fogline.runtimes.counters import Counters
from fogline.runtimes.frameworks.base import Framework, Result
from fogline.runtimes.graph import StageGraph, Wiring
from fogline.runtimes.message import Item
from fogline.runtimes.spec import SpecError, StageSpec
from fogline.runtimes.taps import Taps


class Same(Framework):
    def load(self) -> None: ...

    def process(self, records: list[Any]) -> list[Result]:
        return [[record] for record in records]


def graph(formats: dict[str, str]) -> StageGraph:
    stage = StageSpec("s", "same", ("in",), tuple(formats))
    keys = {("s", queue): name for queue, name in formats.items()}
    return StageGraph([(stage, Same(stage, Path()))], Wiring(frozenset(keys), keys), Counters(["s"]), Taps())


def test_each_output_queue_has_its_own_format() -> None:
    flow = graph({"plain": "text", "quoted": "json"}).run({"s": [Item(0, "i", b"hi")]}, decode_text)
    assert flow.outputs["s", "plain"][0].payload == b"hi"
    assert flow.outputs["s", "quoted"][0].payload == b'"hi"'


def test_bytes_pass_as_they_are_and_have_no_place_in_json() -> None:
    flow = graph({"out": "bytes"}).run({"s": [Item(0, "i", b"\xff")]}, decode_bytes)
    assert flow.outputs["s", "out"][0].payload == b"\xff"
    flow = graph({"out": "json"}).run({"s": [Item(0, "i", b"\xff")]}, decode_bytes)
    assert "type bytes" in flow.letters[0].reason


def test_a_stage_that_writes_nowhere_is_done_all_the_same() -> None:
    flow = graph({}).run({"s": [Item(0, "i", b"1")]})
    assert flow.tallies["s"].done == 1
    assert flow.outputs == {}


def routed(result: Any, *outputs: str) -> StageGraph:
    class Gives(Same):
        def process(self, records: list[Any]) -> list[Result]:
            return [[result] for _ in records]

    stage = StageSpec("s", "code", ("in",), outputs, route="to")
    reader = StageSpec("b", "code", ("s..b",), ("b-out",))
    stages: list[tuple[StageSpec, Framework]] = [(stage, Gives(stage, Path())), (reader, Same(reader, Path()))]
    leaving = frozenset({("s", queue) for queue in outputs if ".." not in queue} | {("b", "b-out")})
    return StageGraph(stages, Wiring(leaving), Counters(["s", "b"]), Taps())


@pytest.mark.parametrize(
    ("to", "reached"),
    [
        ("a", {"a"}),
        ("b", {"b-out"}),
        (["a", "c"], {"a", "c"}),
        (["a", "a"], {"a"}),
        (("b", "c"), {"b-out", "c"}),
        ([], set[str]()),
    ],
)
def test_a_record_goes_where_its_field_says(to: Any, reached: set[str]) -> None:
    flow = routed({"to": to, "n": 1}, "a", "s..b", "c").run({"s": [Item(0, "m", b"1")]})
    assert {queue for (_, queue), items in flow.outputs.items() if items} == reached
    assert flow.letters == {}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"to": "x"}, "'x' is no output; there are a, b, c"),
        ({"to": ["a", "x"]}, r"\['a', 'x'\] is no output"),
        ({"to": None}, "None is no output"),
        ({"to": {"a": 1}}, "is no output; there are a, b, c"),
        ({"to": [["a"]]}, "is no output; there are a, b, c"),
        ({"n": 1}, "no such field; it has 'n'"),
        ({}, "it has no fields"),
        (5, "no object, but int"),
    ],
)
def test_a_record_that_names_no_output_fails_alone(result: Any, words: str) -> None:
    flow = routed(result, "a", "s..b", "c").run({"s": [Item(0, "m", b"1")]})
    (failure,) = flow.letters.values()
    assert re.search(words, failure.reason), failure.reason
    assert not any(flow.outputs.values())


def test_writers_come_before_readers_and_a_loop_is_refused() -> None:
    a, b = StageSpec("a", "x", ("b..a",), ("a..b",)), StageSpec("b", "x", ("a..b",), ("out",))
    first = StageSpec("first", "x", ("in",), ("b..a",))
    assert [stage.name for stage in topological([b, a, first])] == ["first", "a", "b"]
    with pytest.raises(SpecError, match="form a circle"):
        topological([a, StageSpec("b", "x", ("a..b",), ("b..a",))])
