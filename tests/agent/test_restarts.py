"""The restart policy: every policy against every way to end."""

from __future__ import annotations

import pytest

from fogline.agent.core.restarts import LONGEST_DELAY_S, Ending, after_exit, next_delay_s
from fogline.runtimes.spec import Exit

KILLED = Ending(signal=9)
CRASHED = Ending(code=1)
DONE = Ending(code=Exit.DONE)
UNSEEN = Ending()
BAD_SPEC = Ending(code=Exit.BAD_SPEC, reason="unknown framework 'xgboost'")
UNUSABLE = Ending(code=Exit.STAGE_UNUSABLE, reason="stage clean: no module named 'scipy'")
RECORD = Ending(code=Exit.RECORD_FAILED, reason="stage clean: division by zero")
FINISHED = Ending(code=Exit.DONE, reason="end of input: 3 in, 3 out", finished=True)
AWAY = Ending(code=Exit.NOT_CONNECTED, reason="no broker at localhost:1883")

STARTS_AGAIN = {
    "always": [KILLED, CRASHED, DONE, UNSEEN, AWAY],
    "on-failure": [KILLED, CRASHED, UNSEEN, AWAY],
    "no": [],
}
EVERY = [KILLED, CRASHED, DONE, UNSEEN, BAD_SPEC, UNUSABLE, RECORD, AWAY]


@pytest.mark.parametrize("ending", EVERY, ids=lambda ending: ending.sentence())
@pytest.mark.parametrize("policy", STARTS_AGAIN)
def test_who_starts_again(policy: str, ending: Ending) -> None:
    expected = 0.2 if ending in STARTS_AGAIN[policy] else None
    assert after_exit(policy, ending, 0).delay_s == expected


@pytest.mark.parametrize("ending", [BAD_SPEC, UNUSABLE, RECORD])
@pytest.mark.parametrize("policy", STARTS_AGAIN)
def test_a_final_word_is_passed_on_verbatim(policy: str, ending: Ending) -> None:
    assert after_exit(policy, ending, 0).reason == ending.reason


@pytest.mark.parametrize("policy", STARTS_AGAIN)
def test_the_end_of_the_input_is_no_reason_to_start_again(policy: str) -> None:
    verdict = after_exit(policy, FINISHED, 0)
    assert (verdict.delay_s, verdict.finished, verdict.reason) == (None, True, FINISHED.reason)


def test_what_is_said_without_last_words() -> None:
    assert after_exit("always", KILLED, 0).reason == "killed by signal 9 (SIGKILL)"
    assert after_exit("always", CRASHED, 0).reason == "ended with exit code 1"
    assert "restart policy is `on-failure`" in after_exit("on-failure", DONE, 0).reason
    assert "killed by signal 9" in after_exit("no", KILLED, 0).reason


def test_the_wait_doubles_and_stays_bounded() -> None:
    assert [next_delay_s(starts) for starts in range(4)] == [0.2, 0.4, 0.8, 1.6]
    assert next_delay_s(10_000) == LONGEST_DELAY_S
