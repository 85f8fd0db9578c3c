"""A node that refuses pickles: which models are some, and when it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fogline.agent.core.refusals import PICKLE, refusal
from fogline.runtimes.spec import SegmentSpec
from fogline.wire.terms import CopyState
from support.agent_builders import a_spec, a_wish
from support.agent_node import a_node, scene

DIGEST = "a" * 64


def a_model(framework: str = "sklearn", **options: Any) -> SegmentSpec:
    spec = a_spec(artifacts={DIGEST: framework})
    return replace(spec, stages=tuple(replace(stage, options=options) for stage in spec.stages))


PICKLES = [
    (a_model(), "joblib"),
    (a_model(serializer="joblib"), "joblib"),
    (a_model(serializer="pickle"), "pickle"),
    (a_model("scikit-learn"), "joblib"),
]
OTHERS = [a_model("onnx"), a_model("code"), a_model(serializer="skops")]


@pytest.mark.parametrize(("spec", "serializer"), PICKLES)
def test_what_is_a_pickle(spec: SegmentSpec, serializer: str) -> None:
    assert f"stage clean: this node refuses pickles (--refuse pickle), and its model is written by {serializer}" in (
        refusal(spec, (PICKLE,))
    )
    assert refusal(spec, ()) == ""


@pytest.mark.parametrize("spec", OTHERS)
def test_what_is_none(spec: SegmentSpec) -> None:
    assert refusal(spec, (PICKLE,)) == ""


@pytest.mark.e2e
def test_it_says_so_before_anything_is_fetched(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_model())
        async with a_node(tmp_path / "n", refuses=(PICKLE,)) as node:
            node.wants(wish)
            assert "this node refuses pickles" in (await node.reaches(wish, CopyState.FAILED)).reason
        assert not (tmp_path / "n" / "artifacts").exists()

    scene(life())


@pytest.mark.e2e
def test_also_of_what_was_prepared_before_it_refused(tmp_path: Path) -> None:
    async def life() -> None:
        wish = a_wish(a_model())
        (tmp_path / "n" / "artifacts").mkdir(parents=True)
        (tmp_path / "n" / "artifacts" / DIGEST).touch()
        async with a_node(tmp_path / "n") as node:
            node.wants(wish)
            await node.reaches(wish, CopyState.READY)
        async with a_node(tmp_path / "n", refuses=(PICKLE,)) as node:
            seen = await node.reaches(wish, CopyState.FAILED)
            assert "this node refuses pickles" in seen.reason
            assert seen.pid == 0

    scene(life())
