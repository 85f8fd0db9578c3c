"""Fifty gateways and one document: a copy on each, and on the fifty-first that joins, each with a topic of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fogline.coordinator.core.deployment import Phase
from fogline.runtimes.spec import SegmentSpec
from support.conversation import brought_up, obedient, run, submit, until, verdict
from support.documents import a_queue, a_stage
from support.fake_agent import Served, served

pytestmark = pytest.mark.e2e

GATEWAYS = [f"gw-{number:02}" for number in range(50)]


def each(**stage: Any) -> dict[str, Any]:
    """What makes of the pipeline `p` one stage on every node."""
    made = a_stage("q1", "q2", replicas="each", **stage)
    topics = {"q1": "{node.name}/raw", "q2": "all/out"}
    return {"pipeline": {"a": made}, "queues": {name: a_queue(topic) for name, topic in topics.items()}, "infra": {}}


def specs(service: Served) -> dict[str, SegmentSpec]:
    """Node -> what its copy runs."""
    target = service.deployments.get("p").target
    return {copy.node: service.deployments.parsed(copy) for copy in target}


def test_fifty_nodes_have_a_copy_each_and_so_has_one_more_that_joins(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, AsyncExitStack() as fleet:
            for name in GATEWAYS:
                await fleet.enter_async_context(obedient(service.address, name))
            number = await brought_up(service, **each())
            found = specs(service)
            assert sorted(found) == GATEWAYS
            assert {name: spec.sources[0].options["topic"] for name, spec in found.items()} == {
                name: f"{name}/raw" for name in GATEWAYS
            }
            assert len({spec.sources[0].client_id for spec in found.values()}) == len(GATEWAYS)
            assert not any(spec.sources[0].shared for spec in found.values())
            assert {spec.sinks[0].options["topic"] for spec in found.values()} == {"all/out"}

            await fleet.enter_async_context(obedient(service.address, "gw-50"))
            await until("the one that joined is served", lambda: "gw-50" in specs(service))
            assert specs(service)["gw-50"].sources[0].options["topic"] == "gw-50/raw"
            assert service.deployments.get("p").revision == number
            reply = await submit(service, **each())
            assert reply.unchanged, "what it got by joining is what a submit gives it"

    run(test())


def test_an_absent_node_holds_up_neither_a_new_revision_nor_its_own_return(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as service, obedient(service.address, "gw-00"):
            async with obedient(service.address, "gw-01"):
                await brought_up(service, **each())
            await until("it is away", lambda: service.fleet.records["gw-01"].session is None)
            number = (await submit(service, **each(environment={"N": "2"}))).revision
            assert (await verdict(service, number)).succeeded
            assert set(specs(service)) == {"gw-00", "gw-01"}
            async with obedient(service.address, "gw-01") as back:

                def switched() -> bool:
                    record = service.fleet.records["gw-01"]
                    wanted = specs(service)["gw-01"]
                    return any(key[0] == wanted.assignment_id for key in record.observed)

                await until("it has the new revision's copy", switched)
                assert back.name == "gw-01"
            assert service.deployments.get("p").phase is Phase.RUNNING

    run(test())
