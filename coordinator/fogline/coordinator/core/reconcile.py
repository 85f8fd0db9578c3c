"""Reconcile: (deployment, observed, now) -> (deployment, wanted). Pure; somebody else carries it out.

The states are drawn in `deployment`. Every phase that waits has a deadline and an exit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fogline.coordinator.core.deployment import SETTLED, Copy, Deployment, Observed, Outcome, Phase, Seen, Want
from fogline.coordinator.core.recall import recall
from fogline.wire.terms import CopyState, Wanted

PREPARE_S = 300.0
"""For everything but the check, which has the copy's own `startup_s`."""
DRAIN_S = 30.0
DRAIN_GRACE_S = 15.0
"""After the drain: TERM, KILL and the way back."""
HOLD_S = 1.0
"""Ready counts once it held for this long."""
MAX_STARTS = 3
"""A copy that died this often before its first ready will not get there."""

_ENDED = frozenset({CopyState.PREPARING, CopyState.PREPARED, CopyState.FAILED, CopyState.GONE, CopyState.FINISHED})
"""Not running: nothing to drain, so stopped whatever its depth."""
_SERVED = frozenset({CopyState.READY, CopyState.FINISHED})
"""It does what it shall, or has done it: some input is shorter than the way to ready."""


@dataclass(frozen=True)
class Step:
    """One turn of the wheel."""

    deployment: Deployment
    wanted: Mapping[Copy, Want]
    outcomes: tuple[Outcome, ...] = ()
    wake_in_s: float | None = None
    """When to look again even if nothing is heard."""


def reconcile(deployment: Deployment, observed: Observed, now_s: float) -> Step:
    """Move the deployment as far as the observations allow and say what each copy shall be."""
    outcomes: list[Outcome] = []
    for _ in range(len(Phase) * 2):
        moved, outcome = _advance(deployment, observed, now_s)
        outcomes += [outcome] if outcome else []
        if moved == deployment:
            break
        deployment = moved
    deployment = replace(deployment, leaving=tuple(c for c in deployment.leaving if not _gone(c, observed)))
    deployment = recall(deployment, observed)
    return Step(deployment, _wanted(deployment, observed), tuple(outcomes), _wake_in(deployment, observed, now_s))


def _advance(d: Deployment, observed: Observed, now_s: float) -> tuple[Deployment, Outcome | None]:
    if d.phase is Phase.PREPARING:
        return _advance_preparing(d, observed, now_s)
    if d.phase is Phase.DRAINING:
        return _advance_draining(d, observed, now_s), None
    if d.phase in {Phase.STARTING, Phase.ROLLING_BACK}:
        return _advance_starting(d, observed, now_s)
    if d.phase is Phase.RESTARTING:
        return _advance_restarting(d, observed, now_s), None
    if d.phase is Phase.STOPPING:
        return _advance_stopping(d, observed, now_s), None
    if d.phase is Phase.RUNNING and (words := _finished(d, observed)):
        return replace(_enter(d, Phase.FINISHED, now_s), reason=words), None
    return d, None


def _advance_preparing(d: Deployment, observed: Observed, now_s: float) -> tuple[Deployment, Outcome | None]:
    new = [copy for copy in _awaited(d.target, observed) if copy not in d.former]
    # What begins again must be gone first, and so must what still ends the session of a reader's former topic.
    ending = [copy for copy in d.leaving if copy in new or _releases(d, copy, observed)]
    failure = _still_ending(d, ending, now_s) if ending else _first_failure(new, observed)
    failure = failure or _overdue(d, new, observed, now_s, "prepared")
    if failure:
        return _give_up_preparing(d, failure, now_s)
    ready = {CopyState.PREPARED, CopyState.STARTING, CopyState.LOADED, CopyState.RESTARTING, *_SERVED}
    if not ending and all(observed.get(copy, Seen()).state in ready for copy in new):
        return _enter(d, Phase.DRAINING if _replaced(d) else Phase.STARTING, now_s), None
    return d, None


def _advance_draining(d: Deployment, observed: Observed, now_s: float) -> Deployment:
    replaced = _awaited(_replaced(d), observed)
    overdue = now_s - d.since_s > _limit_s(d, observed)
    if overdue or all(_gone(copy, observed) for copy in replaced):
        return _enter(d, Phase.STARTING, now_s)
    return d


def _give_up_preparing(d: Deployment, failure: str, now_s: float) -> tuple[Deployment, Outcome]:
    new = tuple(copy for copy in d.target if copy not in d.former)
    leaving = (*d.leaving, *new)
    if d.former:
        text = f"{failure}; revision {d.former_revision} goes on running, untouched"
        back = replace(
            d, revision=d.former_revision, phase=Phase.RUNNING, since_s=now_s, target=d.former, former=(),
            former_revision=0, leaving=leaving, reason=f"revision {d.revision} failed: {failure}",
        )  # fmt: skip
        return back, Outcome(d.revision, False, text)
    failed = replace(d, phase=Phase.FAILED, since_s=now_s, leaving=leaving, reason=failure)
    return failed, Outcome(d.revision, False, failure)


def _advance_starting(d: Deployment, observed: Observed, now_s: float) -> tuple[Deployment, Outcome | None]:
    awaited = _awaited(d.target, observed)
    new = [copy for copy in awaited if copy not in d.former]
    failure = _first_failure(awaited, observed) or _dying(new, observed)
    failure = failure or _overdue(d, awaited, observed, now_s, "ready")
    if failure:
        return _give_up_starting(d, failure, now_s)
    d, held = _held(d, observed, now_s)
    if not held:
        return d, None
    gone = tuple(copy for copy in d.former if copy not in d.target)
    reason = f"revision {d.failure.revision} failed: {d.failure.text}" if d.failure else ""
    running = replace(
        d, phase=Phase.RUNNING, since_s=now_s, former=(), former_revision=0, leaving=(*d.leaving, *gone),
        failure=None, reason=reason,
    )  # fmt: skip
    if d.failure:
        text = f"{d.failure.text}; rolled back to revision {d.revision}, which runs again"
        return running, Outcome(d.failure.revision, False, text)
    left = (f"segment {copy.segment}: {note}" for copy in gone if (note := observed.get(copy, Seen()).reason))
    words = _finished(d, observed)
    state = f"finished: {words}" if words else "running"
    return running, Outcome(d.revision, True, "; ".join((f"revision {d.revision} is {state}", *left)))


def _finished(d: Deployment, observed: Observed) -> str:
    """What every segment said at the end of its input; empty while one has not come to it."""
    seen = [(copy.segment, observed.get(copy, Seen())) for copy in d.target if _incarnated(d, copy, observed)]
    if len(seen) < len(d.target) or any(each.state is not CopyState.FINISHED for _, each in seen):
        return ""
    return "; ".join(each.reason if len(seen) == 1 else f"{segment}: {each.reason}" for segment, each in seen)


def _held(d: Deployment, observed: Observed, now_s: float) -> tuple[Deployment, bool]:
    """Since when everything is ready, noted; and whether it is by now long enough."""
    if not all(_ready(d, copy, observed) for copy in _awaited(d.target, observed)):
        return replace(d, ready_since_s=None), False
    since_s = now_s if d.ready_since_s is None else d.ready_since_s
    return replace(d, ready_since_s=since_s), now_s - since_s >= HOLD_S


def _ready(d: Deployment, copy: Copy, observed: Observed) -> bool:
    return observed.get(copy, Seen()).state in _SERVED and _incarnated(d, copy, observed)


def _incarnated(d: Deployment, copy: Copy, observed: Observed) -> bool:
    """Whether what is seen of it is about the process that is wanted now."""
    return observed.get(copy, Seen()).incarnation >= d.incarnations.get(copy.assignment, 0)


def _advance_restarting(d: Deployment, observed: Observed, now_s: float) -> Deployment:
    """Back to running in any case: what is not ready by then is shown as degraded, with its reason."""
    d, held = _held(d, observed, now_s)
    fresh = [copy for copy in d.target if _incarnated(d, copy, observed)]  # an old failure is why it was asked for
    if held or _first_failure(fresh, observed) or now_s - d.since_s > _limit_s(d, observed):
        return _enter(d, Phase.RUNNING, now_s)
    return d


def _give_up_starting(d: Deployment, failure: str, now_s: float) -> tuple[Deployment, Outcome | None]:
    leaving = (*d.leaving, *(copy for copy in d.target if copy not in d.former))
    if d.phase is Phase.STARTING and d.former and d.rolls_back:
        back = replace(
            d, revision=d.former_revision, phase=Phase.ROLLING_BACK, since_s=now_s, target=d.former, former=(),
            former_revision=0, leaving=leaving, ready_since_s=None, failure=Outcome(d.revision, False, failure),
        )  # fmt: skip
        return back, None
    text = f"{d.failure.text}; rolling back to revision {d.revision} failed too: {failure}" if d.failure else failure
    failed = replace(
        d, phase=Phase.FAILED, since_s=now_s, former=(), former_revision=0,
        leaving=(*leaving, *d.former), failure=None, reason=text,
    )  # fmt: skip
    return failed, Outcome(d.failure.revision if d.failure else d.revision, False, text)


def _advance_stopping(d: Deployment, observed: Observed, now_s: float) -> Deployment:
    waiting = [copy for copy in d.target if not _gone(copy, observed)]
    overdue = now_s - d.since_s > _limit_s(d, observed)
    if waiting and not overdue:
        return d
    nodes = ", ".join(sorted({copy.node for copy in waiting}))
    reason = f"not yet heard from {nodes}: what runs there stops when the node is back" if waiting else ""
    return replace(d, phase=Phase.STOPPED, since_s=now_s, leaving=(*d.leaving, *waiting), reason=reason)


def _enter(d: Deployment, phase: Phase, now_s: float) -> Deployment:
    return replace(d, phase=phase, since_s=now_s, ready_since_s=None)


def _awaited(copies: Iterable[Copy], observed: Observed) -> list[Copy]:
    """Those that a phase waits for: of copies on each node, only the ones whose node is there."""
    return [copy for copy in copies if not copy.each or observed.get(copy, Seen()).node_connected]


def _replaced(d: Deployment) -> list[Copy]:
    return [copy for copy in d.former if copy not in d.target]


def _releases(d: Deployment, copy: Copy, observed: Observed) -> bool:
    return copy not in d.target and copy.spec_digest in d.dropped and not _gone(copy, observed)


def _gone(copy: Copy, observed: Observed) -> bool:
    return observed.get(copy, Seen()).state is CopyState.GONE


def _first_failure(copies: Iterable[Copy], observed: Observed) -> str:
    for copy in copies:
        seen = observed.get(copy, Seen())
        if seen.state is CopyState.FAILED:
            return f"segment {copy.segment} on {copy.node}: {seen.reason}"
    return ""


def _dying(copies: Iterable[Copy], observed: Observed) -> str:
    for copy in copies:
        seen = observed.get(copy, Seen())
        if seen.restarts >= MAX_STARTS and seen.state not in _SERVED:
            where = f"segment {copy.segment} on {copy.node}"
            return f"{where} died {seen.restarts} times before it was ready: {seen.reason}"
    return ""


def _overdue(d: Deployment, copies: Iterable[Copy], observed: Observed, now_s: float, goal: str) -> str:
    limit_s = _limit_s(d, observed)
    if now_s - d.since_s <= limit_s:
        return ""
    reached = _SERVED if goal == "ready" else {CopyState.PREPARED, *_SERVED}
    for copy in copies:
        seen = observed.get(copy, Seen())
        if seen.state not in reached:
            where = f"segment {copy.segment} on {copy.node} was not {goal} within {limit_s:g} s"
            state = seen.state.value if seen.node_connected else "not connected"
            return f"{where}; it is {state}{': ' + seen.reason if seen.reason else ''}"
    return ""


def _still_ending(d: Deployment, ending: list[Copy], now_s: float) -> str:
    if now_s - d.since_s <= PREPARE_S:
        return ""
    where = f"segment {ending[0].segment} on {ending[0].node}"
    return f"{where} has not ended after {PREPARE_S:g} s, so it cannot begin again"


def _limit_s(d: Deployment, observed: Observed) -> float:
    """How long the present phase may take, by what the slowest copy asks for. Of settled ones infinite."""
    health = [observed.get(copy, Seen()).health for copy in d.target]
    if d.phase is Phase.PREPARING:
        return PREPARE_S + max((each.startup_s for each in health), default=0.0)
    if d.phase is Phase.DRAINING:
        return _drain_limit_s(_replaced(d))
    if d.phase is Phase.STOPPING:
        return _drain_limit_s(d.target)
    loading_s = max((each.startup_s + each.ready_s for each in health), default=0.0)
    if d.phase is Phase.RESTARTING:
        return _drain_limit_s(d.target[:1]) + loading_s
    return math.inf if d.phase in SETTLED else loading_s


def _drain_limit_s(copies: Iterable[Copy]) -> float:
    """Copies drain one depth after the other, so the limit grows with the number of depths."""
    return (DRAIN_S + DRAIN_GRACE_S) * max(1, len({copy.depth for copy in copies}))


def _wanted(d: Deployment, observed: Observed) -> dict[Copy, Want]:
    wanted: dict[Copy, Want] = {}
    if d.phase is Phase.PREPARING:
        wanted |= {copy: Want(Wanted.PREPARED) for copy in d.target}
        wanted |= {copy: Want(Wanted.RUNNING, bind=True) for copy in d.former}
    elif d.phase is Phase.DRAINING:
        wanted |= {copy: Want(Wanted.PREPARED) for copy in d.target}
        wanted |= {copy: Want(Wanted.RUNNING, bind=True) for copy in d.former if copy in d.target}
        wanted |= _stop_in_order(_replaced(d), observed, d.release)
    elif d.phase in {Phase.STARTING, Phase.ROLLING_BACK, Phase.RESTARTING}:
        wanted |= {copy: Want(Wanted.STOPPED) for copy in _replaced(d)}
        wanted |= _start_in_order(d, observed)
    elif d.phase in {Phase.RUNNING, Phase.FINISHED}:  # a node starts nothing again that has come to its end
        wanted |= {copy: Want(Wanted.RUNNING, bind=True) for copy in d.target}
    elif d.phase is Phase.STOPPING:
        wanted |= _stop_in_order(d.target, observed, d.release)
    wanted |= {copy: Want(Wanted.STOPPED, release=d.release) for copy in d.leaving}
    return {copy: _in_full(d, copy, want) for copy, want in wanted.items()}


def _in_full(d: Deployment, copy: Copy, want: Want) -> Want:
    if want.wanted is Wanted.RUNNING:
        return replace(want, incarnation=d.incarnations.get(copy.assignment, 0))
    if want.wanted is Wanted.STOPPED and copy not in d.target:
        return replace(want, readers=d.dropped.get(copy.spec_digest, ()))
    return want


def _stop_in_order(copies: Iterable[Copy], observed: Observed, release: bool) -> dict[Copy, Want]:
    """From upstream to downstream: what runs is stopped once everything above it is gone.

    What is gone stays listed: only as long as it is listed as STOPPED does its absence mean that it is gone.
    """
    states = {copy: observed.get(copy, Seen()).state for copy in copies}
    awaited = _awaited(states, observed)
    shallowest = min((copy.depth for copy in awaited if states[copy] is not CopyState.GONE), default=0)
    stop = Want(Wanted.STOPPED, release=release)
    return {
        copy: stop if copy.depth <= shallowest or state in _ENDED else Want(Wanted.RUNNING, bind=True)
        for copy, state in states.items()
    }


def _start_in_order(d: Deployment, observed: Observed) -> dict[Copy, Want]:
    """All load at once; binding goes from downstream to upstream, behind the readers' subscriptions."""
    unbound = [copy.depth for copy in _awaited(d.target, observed) if not _ready(d, copy, observed)]
    deepest = max(unbound, default=0)
    return {copy: Want(Wanted.RUNNING, bind=copy.depth >= deepest) for copy in d.target}


def _wake_in(d: Deployment, observed: Observed, now_s: float) -> float | None:
    if d.phase in SETTLED:
        return None
    if d.ready_since_s is not None:
        return max(0.0, d.ready_since_s + HOLD_S - now_s)
    return max(0.0, d.since_s + _limit_s(d, observed) - now_s) + 0.01
