"""What the spec of a segment in a container says, and that the others say what they always did."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fogline.coordinator.core.specs import Source, segment_spec
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.parse import parse as parse_document
from fogline.runtimes.spec import SegmentSpec, parse
from support.documents import a_fused_pipeline, document

FUSED = Segment("a", ("a", "b", "c"), "edge", 0)


def spec_of(resources: dict[str, dict[str, Any]], **changes: Any) -> SegmentSpec:
    raw = a_fused_pipeline(**changes)
    for name, asked in resources.items():
        raw["pipeline"][name]["resources"] = asked
    return segment_spec(document(raw), FUSED, "c1", dict.fromkeys(FUSED.stages, Source("d")))


LIMITED = {name: {"memory": "100MB", "cpus": 0.5} for name in FUSED.stages}


@pytest.mark.parametrize(
    ("resources", "memory_bytes", "cpus"),
    [({}, 0, 0.0), (LIMITED, 300_000_000, 1.5), (LIMITED | {"b": {"cpus": 1}}, 0, 2.0)],
    ids=["none", "all", "one-without"],
)
def test_stages_that_share_a_container_share_its_limits(
    resources: dict[str, dict[str, Any]], memory_bytes: int, cpus: float
) -> None:
    spec = spec_of(resources, containerized=True)
    assert (spec.container, spec.memory_bytes, spec.cpus) == (True, memory_bytes, cpus)
    assert parse(spec.to_bytes()) == spec


def test_a_native_spec_has_none_of_the_keys() -> None:
    written = json.loads(spec_of(LIMITED).to_bytes())
    assert not {"container", "memory_bytes", "cpus"} & set(written)


@pytest.mark.parametrize("wish", [{"privileged": True}, {"volumes": ["/:/host"]}, {"user": "root"}, {"cap-add": []}])
def test_there_is_no_way_to_wish_for_more(wish: dict[str, Any]) -> None:
    raw = a_fused_pipeline(containerized=True)
    raw["pipeline"]["a"] |= wish
    _, problems = parse_document(raw)
    (key,) = wish
    assert [(each.pointer, each.severity) for each in problems] == [(f"/pipeline/a/{key}", "error")]
