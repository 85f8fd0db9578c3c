"""Split: groups, names, depths and cuts."""

from __future__ import annotations

from typing import Any

import pytest

from fogline.coordinator.core.split import Split, split
from support.documents import a_fused_pipeline, a_pipeline, a_queue, a_stage, document


def _split(raw: dict[str, Any], nodes: dict[str, str] | None = None, **incompatible: str) -> Split:
    parsed = document(raw)
    pairs = {tuple(key.split("_")): why for key, why in incompatible.items()}
    return split(parsed, nodes or dict.fromkeys(parsed.pipeline, "n1"), pairs)  # type: ignore[arg-type]


def test_queues_make_one_segment_per_stage_ordered_by_depth() -> None:
    result = _split(a_pipeline())
    assert [(each.name, each.stages, each.depth) for each in result.segments] == [
        ("a", ("a",), 0),
        ("b", ("b",), 1),
        ("c", ("c",), 2),
    ]
    assert result.cuts == ()


def test_direct_links_make_one_segment_named_after_the_first_stage() -> None:
    stages = {"z": a_stage("q1", "m"), "m": a_stage("z", "a"), "a": a_stage("m", "q4")}
    raw = a_pipeline(pipeline=stages, queues={"q1": a_queue("t1"), "q4": a_queue("t4")})
    (segment,) = _split(raw).segments
    assert (segment.name, segment.stages) == ("z", ("z", "m", "a"))


def test_a_link_across_nodes_is_cut_and_the_rest_stays_fused() -> None:
    result = _split(a_fused_pipeline(), {"a": "n1", "b": "n1", "c": "n2"})
    assert [(each.stages, each.node, each.depth) for each in result.segments] == [
        (("a", "b"), "n1", 0),
        (("c",), "n2", 1),
    ]
    assert [cut.link for cut in result.cuts] == [("b", "c")]
    assert "n1" in result.cuts[0].reason
    assert "n2" in result.cuts[0].reason


@pytest.mark.parametrize(
    ("trait", "value"), [("restart", "no"), ("environment", {"A": "1"}), ("containerized", True), ("replicas", 2)]
)
def test_stages_that_cannot_share_a_process_are_cut(trait: str, value: Any) -> None:
    raw = a_fused_pipeline()
    raw["pipeline"]["b"][trait] = value
    result = _split(raw)
    assert [cut.link for cut in result.cuts] == [("a", "b"), ("b", "c")]
    assert f"`{trait}`" in result.cuts[0].reason


def test_a_pair_the_submitter_found_incompatible_is_cut_in_either_order() -> None:
    assert [cut.reason for cut in _split(a_fused_pipeline(), c_b="both hold a module tools").cuts] == [
        "both hold a module tools"
    ]


def test_an_incompatible_pair_that_others_would_fuse_is_cut_at_the_later_stage() -> None:
    result = _split(a_fused_pipeline(), c_a="both hold a module tools")
    assert [(cut.link, cut.reason) for cut in result.cuts] == [(("b", "c"), "both hold a module tools")]
    assert [each.stages for each in result.segments] == [("a", "b"), ("c",)]


def test_the_order_of_the_map_carries_no_meaning() -> None:
    raw = a_fused_pipeline()
    turned = raw | {"pipeline": dict(reversed(raw["pipeline"].items()))}
    assert _split(raw) == _split(turned)
