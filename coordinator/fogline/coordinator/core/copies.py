"""From the segments of a plan to the copies that run them and the bytes of their specs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fogline.coordinator.core.deployment import Copy
from fogline.coordinator.core.graph import Link
from fogline.coordinator.core.specs import Source, segment_spec
from fogline.coordinator.core.split import Segment
from fogline.coordinator.padl.model import Document, Queue
from fogline.runtimes.spec import digest


def copies_of(
    document: Document,
    segments: Sequence[Segment],
    cluster: str,
    artifacts: Mapping[str, str],
    automatic: Mapping[Link, Queue],
) -> tuple[tuple[Copy, ...], dict[str, bytes]]:
    """One copy per segment, sorted, and each spec by its digest. `artifacts` must hold every stage."""
    sources = {name: Source(artifact=digest_) for name, digest_ in artifacts.items()}
    copies, blobs = [], {}
    for segment in segments:
        spec = segment_spec(document, segment, cluster, sources, automatic)
        blob = spec.to_bytes()
        copies.append(Copy(spec.assignment_id, digest(blob), segment.node, segment.name, segment.depth))
        blobs[digest(blob)] = blob
    return tuple(sorted(copies)), blobs
