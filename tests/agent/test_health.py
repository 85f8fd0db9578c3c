"""The health deadlines, on a clock of the test's own."""

from __future__ import annotations

from fogline.agent.core.health import Vigil
from fogline.runtimes.spec import HealthSpec

HEALTH = HealthSpec(startup_s=120.0, live_s=60.0)
TOO_SLOW = "stage clean: not loaded within 120 s (health.startup)"
STUCK = "stage clean: no progress for 60 s (health.live)"
MUTE = f"{STUCK}: its control socket does not answer"


def a_vigil(*, found: bool = False) -> Vigil:
    return Vigil(HEALTH, "stage clean", started_at_s=1000.0, found=found)


def test_loading_may_take_its_time_and_no_longer() -> None:
    vigil = a_vigil()
    vigil.unanswered(119.0)
    assert vigil.verdict(1120.0) == ""
    vigil.answered(loaded=False)
    assert vigil.verdict(1120.0) == ""
    assert vigil.verdict(1120.1) == TOO_SLOW


def test_a_process_that_never_says_a_word_is_one_that_does_not_load() -> None:
    vigil = a_vigil()
    vigil.unanswered(500.0)
    assert vigil.verdict(1119.0) == "", "an import may hold the interpreter for long"
    assert vigil.verdict(1121.0) == TOO_SLOW


def test_loading_is_never_held_against_live() -> None:
    vigil = a_vigil()
    vigil.answered(loaded=False, stalled_s=100.0)
    assert vigil.verdict(1100.0) == ""


def test_once_loaded_startup_is_over() -> None:
    vigil = a_vigil()
    vigil.answered(loaded=True)
    assert vigil.verdict(1_000_000.0) == ""


def test_no_progress_in_a_stage() -> None:
    vigil = a_vigil()
    vigil.answered(loaded=True, stalled_s=60.0)
    assert vigil.verdict(2000.0) == ""
    vigil.answered(loaded=True, stalled_s=60.1)
    assert vigil.verdict(2000.0) == STUCK
    vigil.answered(loaded=True, stalled_s=60.1, stage="second")
    assert vigil.verdict(2000.0) == "stage second: no progress for 60 s (health.live)"
    vigil.answered(loaded=True, stalled_s=0.5)
    assert vigil.verdict(2000.0) == "", "it was only slow"


def test_silence_counts_as_far_as_it_was_waited_for() -> None:
    vigil = a_vigil()
    vigil.answered(loaded=True)
    assert vigil.verdict(5000.0) == "", "an agent that was stopped has not asked"
    for _ in range(30):
        vigil.unanswered(2.0)
    assert vigil.verdict(5060.0) == ""
    vigil.unanswered(2.0)
    assert vigil.verdict(5062.0) == MUTE
    vigil.answered(loaded=True)
    assert vigil.verdict(5063.0) == ""


def test_a_process_that_was_found_mute_gets_both_deadlines() -> None:
    old = a_vigil(found=True)
    old.unanswered(60.0)
    assert old.verdict(9000.0) == "", "it may have been busy when we came"
    old.unanswered(1.0)
    assert old.verdict(9001.0) == MUTE
    young = a_vigil(found=True)
    young.unanswered(61.0)
    assert young.verdict(1061.0) == "", "it may still load"
    assert young.verdict(1121.0) == MUTE
