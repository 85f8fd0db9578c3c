"""What an operator orders, as a change of the deployment: submit, stop, restart. Pure.

Orders come one at a time, and each takes effect at once, whatever phase the deployment is in: of two submits
that race, the later one is in charge and the verdict on the earlier says that it was superseded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fogline.coordinator.core.deployment import SETTLED, Copy, Deployment, Observed, Outcome, Phase, Seen
from fogline.wire.terms import CopyState

_UNDER_WAY = frozenset(Phase) - SETTLED - {Phase.STOPPING, Phase.RESTARTING}
"""A revision is being brought up, which has no verdict yet."""
_ENDS_FIRST = frozenset({Phase.STOPPING, Phase.FINISHED})
"""Its copies are still there, and must be gone before any of them begins again."""
_RUN = frozenset({Phase.DRAINING, Phase.STARTING, Phase.ROLLING_BACK, Phase.RUNNING, Phase.RESTARTING})


def submitted(
    deployment: Deployment | None,
    number: int,
    target: Iterable[Copy],
    observed: Observed,
    now_s: float,
    *,
    rolls_back: bool = True,
) -> tuple[Deployment, Outcome | None]:
    """The deployment after revision `number` was accepted, and the verdict on one it superseded, if any.

    What runs now stays until the new revision is prepared; a revision that was still on its way is given
    up; a copy that failed ends before it begins again. The id is taken from the copies' assignment.
    """
    copies = tuple(sorted(target))
    if deployment is None:
        id_ = copies[0].assignment.split("/")[0]
        return Deployment(id_, number, Phase.PREPARING, now_s, copies, rolls_back=rolls_back), None
    d = deployment
    superseded = None
    if d.phase in _UNDER_WAY:
        superseded = d.failure or Outcome(d.revision, False, f"superseded by revision {number}")
    former: tuple[Copy, ...] = ()
    given_up: tuple[Copy, ...] = ()
    former_revision = 0
    if d.phase is Phase.PREPARING:
        former, former_revision, given_up = d.former, d.former_revision, d.target
    elif d.phase in _ENDS_FIRST:
        given_up = d.target
    elif d.phase in _RUN:
        former, former_revision, given_up = d.target, d.revision, d.former
    failed = tuple(c for c in (*former, *copies) if observed.get(c, Seen()).state is CopyState.FAILED)
    former = tuple(c for c in former if c not in failed)
    staying = () if d.phase in _ENDS_FIRST else (*copies, *former)
    leaving = (*d.leaving, *failed, *(c for c in given_up if c not in staying))
    revision = former_revision if former else 0
    fresh = Deployment(
        d.id, number, Phase.PREPARING, now_s, copies, revision, former, tuple(dict.fromkeys(leaving)),
        rolls_back=rolls_back, incarnations=d.incarnations, dropped=d.dropped,
    )  # fmt: skip
    return fresh, superseded


def dropping(fresh: Deployment, ended: Iterable[Copy], dropped: Mapping[str, tuple[str, ...]]) -> Deployment:
    """A deployment just submitted, with the readers that the change drops, or that going back would drop.

    `ended`: what ran last, where it does not run any more; its sessions are still there.
    """
    old = tuple(copy for copy in ended if copy.spec_digest in dropped and copy not in fresh.target)
    leaving = tuple(dict.fromkeys((*fresh.leaving, *old)))
    # Without a former revision there is no going back: what a failed first try has collected is kept for the next.
    about = {copy.spec_digest for copy in (*leaving, *fresh.former, *(fresh.target if fresh.former else ()))}
    kept = {key: ids for key, ids in {**fresh.dropped, **dropped}.items() if key in about}
    return replace(fresh, leaving=leaving, dropped=kept)


def stopped(deployment: Deployment, now_s: float, *, release: bool = False) -> tuple[Deployment, Outcome | None]:
    """The deployment after the operator said stop, and the verdict on a revision that was under way.

    In charge stays what ran, so that a start runs it again. A delete under way goes on.
    """
    superseded = None
    if deployment.phase in _UNDER_WAY:
        text = "stopped by the operator before it was ready"
        superseded = deployment.failure or Outcome(deployment.revision, False, text)
    running, revision = deployment.target, deployment.revision
    if deployment.former and deployment.phase in {Phase.PREPARING, Phase.DRAINING}:
        running, revision = deployment.former, deployment.former_revision
    rest = (c for c in (*deployment.target, *deployment.former) if c not in running)
    fresh = replace(
        deployment, revision=revision, phase=Phase.STOPPING, since_s=now_s, target=running, former=(),
        former_revision=0, leaving=tuple(dict.fromkeys((*deployment.leaving, *rest))), ready_since_s=None, failure=None,
        reason="", release=release or deployment.release, recalled={},
    )  # fmt: skip
    return fresh, superseded


def restarted(deployment: Deployment, assignments: Iterable[str], now_s: float) -> Deployment:
    """A running deployment after the operator had processes of it replaced: their incarnations go up by one."""
    raised = {each: deployment.incarnations.get(each, 0) + 1 for each in assignments}
    return replace(
        deployment, phase=Phase.RESTARTING, since_s=now_s, ready_since_s=None, reason="",
        incarnations={**deployment.incarnations, **raised}, recalled={},
    )  # fmt: skip
