"""Which readers a revision drops: their broker sessions would go on collecting for nobody. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from fogline.runtimes.options import ADDRESS
from fogline.runtimes.spec import EndpointSpec, SegmentSpec

Specs = Mapping[str, SegmentSpec]
"""Spec digest -> spec."""


def dropped(former: Specs, target: Specs) -> dict[str, tuple[str, ...]]:
    """Spec digest -> client ids whose session ends with the copy of that spec, for both directions.

    A reader is its client id at its address: a stage that reads another topic under the same name is another
    reader, for its session would go on collecting the former topic.
    """
    return _missing(former, target) | _missing(target, former)


def _missing(here: Specs, there: Specs) -> dict[str, tuple[str, ...]]:
    kept = {_reader(source) for spec in there.values() for source in spec.sources}
    found = {}
    for key, spec in here.items():
        ids = tuple(source.client_id for source in spec.sources if _reader(source) not in kept)
        if ids and key not in there:
            found[key] = ids
    return found


def _reader(source: EndpointSpec) -> tuple[object, ...]:
    return source.client_id, source.connector, *(source.options.get(name) for name in ADDRESS)
