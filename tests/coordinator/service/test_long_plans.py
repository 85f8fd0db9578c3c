from __future__ import annotations

from fogline.coordinator.core.place import Circumstances
from fogline.coordinator.core.plan import plan
from fogline.coordinator.core.wires import Wiring
from fogline.coordinator.service import translate
from support.documents import a_node, a_pipeline, a_queue, a_stage, document


def test_a_plan_tells_every_node_that_was_passed_over() -> None:
    fleet = [a_node(f"n{number}") for number in range(5)]
    reply = translate.plan_reply(plan(document(a_pipeline()), fleet, Circumstances(), {}, Wiring()))
    assert [len(segment.passed_over) for segment in reply.segments] == [4, 4, 4]


def test_a_plan_for_many_nodes_says_how_many_it_leaves_out() -> None:
    names = [f"n{number:03}" for number in range(200)]
    raw = a_pipeline(
        pipeline={name: a_stage(f"in-{name}", f"out-{name}", infra=name) for name in names},
        queues={f"{end}-{name}": a_queue(f"{end}/{name}") for name in names for end in ("in", "out")},
        infra={name: {} for name in names},
    )
    found = plan(document(raw), [a_node(name) for name in names], Circumstances(), {}, Wiring())
    assert found.errors == []
    passed = translate.plan_reply(found).segments[0].passed_over
    assert len(passed) == translate.MOST_PASSED_OVER // len(names) + 1
    assert passed[-1].node == f"{len(names) - len(passed)} more nodes"
