"""Which stages are parted when their packages cannot be had together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fogline.coordinator.artifacts.conflicts import Quarrel, quarrel
from fogline.coordinator.artifacts.pinning import Unresolvable
from fogline.coordinator.core.needs import Need


def never(*groups: str) -> Callable[[Sequence[str]], Unresolvable | None]:
    """Refuses whatever holds all stages of one of these groups, in the words of that group's stages."""

    def refused(stages: Sequence[str]) -> Unresolvable | None:
        for group in groups:
            if set(group) <= set(stages):
                return Unresolvable("no", [Need(f"x{stage}", f"stage {stage}", stage) for stage in group])
        return None

    return refused


def test_the_first_that_does_not_fit_is_parted_from_the_one_it_quarrels_with() -> None:
    assert quarrel("abcd", never("ac")) == Quarrel(("a", "c"), "stage a asks for xa and stage c asks for xc")
    assert quarrel("abcd", never("bd", "ad")) == Quarrel(("a", "d"), "stage a asks for xa and stage d asks for xd")


def test_one_that_fits_with_each_but_not_with_all_is_parted_from_its_neighbour() -> None:
    reason = "stage a asks for xa and stage b asks for xb and stage c asks for xc"
    assert quarrel("abc", never("abc")) == Quarrel(("b", "c"), reason, alone=False)


def test_parting_does_not_help_a_stage_that_cannot_be_had_alone() -> None:
    assert quarrel("abc", never("b", "ac")) is None
    assert quarrel("a", never("a")) is None
    assert quarrel("abc", never()) is None


def test_what_no_stage_asked_for_by_name_is_told_as_it_is() -> None:
    def refused(stages: Sequence[str]) -> Unresolvable | None:
        return Unresolvable("deep down", []) if len(stages) > 1 else None

    assert quarrel("ab", refused) == Quarrel(("a", "b"), "deep down")
