"""Which stages of a segment cannot share an environment, though each can have one alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fogline.coordinator.artifacts.pinning import Unresolvable
from fogline.coordinator.core.graph import Link


@dataclass(frozen=True)
class Quarrel:
    """Two stages to be parted."""

    pair: Link
    reason: str
    alone: bool = True
    """Whether the two conflict whoever else is with them."""


def quarrel(stages: Sequence[str], refused: Callable[[Sequence[str]], Unresolvable | None]) -> Quarrel | None:
    """Two of these stages, in their order, that are to be parted, and why; None where parting would not help.

    `refused` says why some of them cannot share an environment, or None when they can.
    """
    if any(refused([stage]) for stage in stages):
        return None
    together: list[str] = []
    for stage in stages:
        if together and (why := refused([*together, stage])):
            for other in together:
                if between := refused([other, stage]):
                    return Quarrel((other, stage), _reason(between, (other, stage)))
            return Quarrel((together[-1], stage), _reason(why, (*together, stage)), alone=False)
        together.append(stage)
    return None


def _reason(why: Unresolvable, stages: Sequence[str]) -> str:
    asked = [need for need in why.needs if need.stage in stages]
    if len({need.stage for need in asked}) < 2:
        return why.sentence
    return " and ".join(f"{need.by} asks for {need.line}" for need in asked)
