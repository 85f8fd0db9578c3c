"""What the assignments of a node need on its disk; all else may go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fogline.agent.core.desired import Assignment
from fogline.agent.host.artifacts import needed_by
from fogline.agent.host.contexts import needed_for_image
from fogline.agent.host.environments import Environments
from fogline.agent.preparation import read_spec


@dataclass(frozen=True)
class Needs:
    """By digest."""

    artifacts: frozenset[str]
    environments: frozenset[str]


def needs(wishes: Iterable[Assignment], environments: Environments) -> Needs:
    """What these wishes need. Raises FoglineError for one that cannot be read: nobody knows what that needs.

    The wheels of an environment are needed until it is whole.
    """
    specs = [read_spec(wish) for wish in wishes]
    artifacts = {needed.digest for spec in specs for needed in needed_by(spec)}
    for spec in specs:
        artifacts |= environments.needed(spec) | needed_for_image(spec, environments.artifacts.folder)
    return Needs(frozenset(artifacts), frozenset(spec.lock for spec in specs if spec.lock))
