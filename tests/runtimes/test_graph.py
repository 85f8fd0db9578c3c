"""Formats at the edges of the graph; the rest is tested through the pump."""

from __future__ import annotations

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


def test_writers_come_before_readers_and_a_loop_is_refused() -> None:
    a, b = StageSpec("a", "x", ("b..a",), ("a..b",)), StageSpec("b", "x", ("a..b",), ("out",))
    first = StageSpec("first", "x", ("in",), ("b..a",))
    assert [stage.name for stage in topological([b, a, first])] == ["first", "a", "b"]
    with pytest.raises(SpecError, match="form a circle"):
        topological([a, StageSpec("b", "x", ("a..b",), ("b..a",))])
