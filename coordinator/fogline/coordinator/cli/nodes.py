"""Commands about nodes."""

from __future__ import annotations

from typing import Any

from fogline.coordinator.cli import output
from fogline.coordinator.cli.client import CALL_S, connect
from fogline.coordinator.cli.options import DEFAULT_ADDRESS, CoordinatorOption, InsecureOption, OutputOption
from fogline.coordinator.cli.output import Output
from fogline.v1 import operator_coordinator_pb2 as operator


def nodes(
    coordinator: CoordinatorOption = DEFAULT_ADDRESS,
    insecure: InsecureOption = False,
    output_: OutputOption = Output.TABLE,
) -> None:
    """List the nodes that have joined.

    Example: coord nodes --output json
    """
    with connect(coordinator, insecure=insecure) as stub:
        found = stub.ListNodes(operator.ListNodesRequest(), timeout=CALL_S).nodes
    rows = [node_json(node) for node in found]
    if output_ is Output.JSON:
        output.print_json(rows)
        return
    columns = ["NODE", "LAYER", "STATE", "LABELS", "HOST", "ARCH", "CPUS", "MEMORY", "RUNS", "HEARD"]
    output.print_table(
        columns,
        [
            [
                row["name"],
                row["layer"],
                row["state"],
                ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items())) or "-",
                row["hostname"],
                row["architecture"],
                f"{row['cpus']:g}",
                f"{row['memory_bytes'] / 2**30:.1f} GiB",
                row["assignments"],
                f"{row['seen_s_ago']:.0f} s ago",
            ]
            for row in rows
        ],
    )


def node_json(node: operator.Node) -> dict[str, Any]:
    """The stable shape of a node."""
    facts = node.facts
    return {
        "name": facts.name,
        "layer": facts.layer,
        "state": node.state,
        "labels": dict(facts.labels),
        "hostname": facts.hostname,
        "machine_id": facts.machine_id,
        "os": facts.os,
        "architecture": facts.architecture,
        "python": facts.python,
        "cpus": facts.cpus,
        "memory_bytes": facts.memory_bytes,
        "disk_bytes": facts.disk_bytes,
        "drivers": list(facts.drivers),
        "frameworks": list(facts.frameworks),
        "connectors": list(facts.connectors),
        "address": facts.address,
        "tls": facts.tls,
        "assignments": node.assignments,
        "release": node.release,
        "seen_s_ago": round(node.seen_s_ago, 1),
    }
