"""The example's documents: every combination that the README names is accepted without a remark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fogline.coordinator.padl.model import Document
from fogline.coordinator.padl.parse import load
from fogline.coordinator.padl.verdict import judge
from support.example import EXAMPLE

COMBINATIONS = [
    ("pipeline.json",),
    ("pipeline.json", "atomic.json"),
    ("pipeline.json", "local.json"),
    ("pipeline.json", "csv.json"),
    ("pipeline.json", "kafka.json"),
    ("pipeline.json", "csv.json", "atomic.json", "local.json"),
    ("padl-1.0.yaml",),
]


def document(*names: str) -> Document:
    """The merged document, after making sure that nothing is to be said about it."""
    loaded = load([EXAMPLE / name for name in names])
    assert judge(loaded) == []
    assert loaded.document is not None
    return loaded.document


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_documents_are_accepted(names: tuple[str, ...]) -> None:
    assert set(document(*names).pipeline) == {"preparation", "detector", "outliers_filter"}


def test_the_pipeline_is_distributed_over_three_machines() -> None:
    stages = document("pipeline.json").pipeline
    assert {stage.infra for stage in stages.values()} == {"m1", "m2", "m3"}


def test_the_atomic_form_keeps_only_the_outer_queues() -> None:
    atomic = document("pipeline.json", "atomic.json")
    assert {stage.infra for stage in atomic.pipeline.values()} == {"m2"}
    assert set(atomic.queues) == {"q1", "q4"}


def test_the_pipelines_share_no_topic() -> None:
    topics = [
        {queue.props["topic"] for queue in document(*names).queues.values()}
        for names in (("pipeline.json",), ("pipeline.json", "csv.json"), ("padl-1.0.yaml",))
    ]
    assert [len(each) for each in topics] == [4, 4, 4]
    assert len(set.union(*topics)) == 12


def test_the_older_form_means_the_same_stages() -> None:
    new, old = document("pipeline.json"), document("padl-1.0.yaml")
    for name, stage in new.pipeline.items():
        other = old.pipeline[name]
        kept = {key: value for key, value in stage.props.items() if key != "function"}
        folder = {key: str(value).removeprefix("./") for key, value in kept.items()}
        assert (stage.framework, folder) == (other.framework, other.props)


def test_the_document_in_the_readme_is_accepted(tmp_path: Path) -> None:
    readme = (EXAMPLE.parents[1] / "README.md").read_text()
    (block,) = re.findall(r"^```json\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "pipeline.json").write_text(block)
    assert judge(load([tmp_path / "pipeline.json"])) == []
