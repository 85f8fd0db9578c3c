"""Golden plans: a document and a fleet in, the whole plan out, compared with a file a person has read.

After a deliberate change: `python tests/coordinator/core/test_golden.py` writes the files anew; read the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.core.fleet import Node, NodeState
from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.plan import plan
from fogline.coordinator.core.specs import Replica, Source, segment_spec
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.padl.parse import parse

CASES = sorted(path for path in (Path(__file__).parents[2] / "golden").iterdir() if path.is_dir())


def _planned(case: Path) -> dict[str, Any]:
    document, problems = parse(json.loads((case / "pipeline.json").read_text()))
    assert document is not None, problems
    given = json.loads((case / "fleet.json").read_text())
    fleet = [_node(each) for each in given["nodes"]]
    found = plan(document, fleet, Circumstances(**given.get("circumstances", {})), {}, Wiring("cluster"))
    sources = {name: Source(artifact=f"digest-of-{name}") for name in document.pipeline}
    specs = []
    if not found.errors:
        specs = [
            segment_spec(
                document, each, "cluster", sources, found.automatic, Replica(serving=found.servings.get(each.name))
            )
            for each in found.segments
        ]
    return {
        "segments": [
            {
                "name": each.name,
                "stages": list(each.stages),
                "node": each.node,
                "depth": each.depth,
                "passed_over": {other.node: other.reason for other in found.passed_over[each.name]},
            }
            for each in found.segments
        ],
        "links": [
            [each.name, each.connector, each.address, list(each.writers), list(each.readers)] for each in found.links
        ],
        "problems": [[each.severity, each.pointer, each.message] for each in found.problems],
        "specs": [json.loads(spec.to_bytes()) for spec in specs],
    }


def _node(facts: dict[str, Any]) -> Node:
    lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
    return Node(**facts | lists | {"state": NodeState(facts.get("state", "connected"))})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_plan_is_the_one_on_file(case: Path) -> None:
    assert _planned(case) == json.loads((case / "plan.json").read_text())


def test_there_are_cases() -> None:
    assert len(CASES) >= 6


if __name__ == "__main__":
    for each in CASES:
        (each / "plan.json").write_text(json.dumps(_planned(each), indent=2) + "\n")
