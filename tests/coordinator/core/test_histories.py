"""Random histories of orders and observations: what must hold at every step, and that every one of them settles."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fogline.coordinator.core.deployment import SETTLED, Copy, Deployment, Observed, Phase, Seen
from fogline.coordinator.core.imports import Held, taken_over
from fogline.coordinator.core.orders import dropping, restarted, stopped, submitted
from fogline.coordinator.core.reconcile import Step, reconcile
from fogline.wire.terms import CopyState, Wanted

A1, B1 = (Copy(f"p/{name}/0/a", f"{name}1", "n", name, depth) for depth, name in enumerate("ab"))
A2, B2 = replace(A1, spec_digest="a2"), replace(B1, spec_digest="b2")
DROPPED = {"a1": ("reader of a1",), "b2": ("reader of b2",)}

_SEEN = st.builds(
    Seen,
    st.sampled_from(list(CopyState)),
    st.sampled_from(["why", "superseded: another client reads as x"]),
    restarts=st.integers(0, 4),
    node_connected=st.booleans(),
    incarnation=st.integers(0, 2),
)
_HISTORIES = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.sampled_from([A1, A2, B1, B2]), _SEEN),
        st.tuples(st.just("submit"), st.sampled_from([(A1, B1), (A2, B1), (A2, B2), (B1,)]), st.booleans()),
        st.tuples(st.just("restart"), st.sampled_from([A1.assignment, B1.assignment]), st.none()),
        st.tuples(st.just("stop"), st.booleans(), st.none()),
        st.tuples(st.just("take over"), st.sampled_from([A1, A2, B1]), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 2.0, 100.0, 700.0]), st.none()),
    ),
    max_size=30,
)
History = list[tuple[str, object, object]]


class World:
    """A deployment and what is seen of it; every step is checked."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.number = 1
        self.seen: dict[Copy, Seen] = {}
        self.deployment = submitted(None, 1, (A1, B1), {}, 0.0)[0]

    def play(self, history: History) -> None:
        for kind, what, how in history:
            if kind == "see":
                self.seen[what] = how  # type: ignore[index, assignment]
            elif kind == "wait":
                self.now_s += what  # type: ignore[operator]
            else:
                self._order(kind, what, how)
            self.turn()

    def _order(self, kind: str, what: object, how: object) -> None:
        d, now_s = self.deployment, self.now_s
        if kind == "submit":
            self.number += 1
            fresh, _ = submitted(d, self.number, what, self.seen, now_s, rolls_back=bool(how))  # type: ignore[arg-type]
            self.deployment = dropping(fresh, d.target if d.phase in {Phase.STOPPED, Phase.FAILED} else (), DROPPED)
        elif kind == "restart" and d.phase in {Phase.RUNNING, Phase.RESTARTING}:
            self.deployment = restarted(d, [str(what)], now_s)
        elif kind == "stop":
            self.deployment, _ = stopped(d, now_s, release=bool(what))
        elif kind == "take over":
            held = Held(what, Wanted.RUNNING, int(str(how)))  # type: ignore[arg-type]
            self.deployment = taken_over(d, "n", [held], {}, now_s) or d
            self.number = max(self.number, self.deployment.revision)

    def turn(self) -> Step:
        step = reconcile(self.deployment, self.seen, self.now_s)
        self.deployment = step.deployment
        running = [copy.assignment for copy, want in step.wanted.items() if want.wanted is Wanted.RUNNING]
        assert len(running) == len(set(running)), "two specs of one assignment"
        for copy, want in step.wanted.items():
            if copy in self.deployment.leaving:
                assert want.wanted is Wanted.STOPPED
            if want.readers:
                assert copy not in self.deployment.target, "a session would end that is read"
        return step

    def obey(self) -> None:
        """Every node does at once what it is told."""
        for copy, want in self.turn().wanted.items():
            state = {
                Wanted.PREPARED: CopyState.PREPARED,
                Wanted.RUNNING: CopyState.READY if want.bind else CopyState.LOADED,
                Wanted.STOPPED: CopyState.GONE,
            }[want.wanted]
            self.seen[copy] = Seen(state, incarnation=want.incarnation)


@given(_HISTORIES)
def test_whatever_happens_one_assignment_never_has_two_running_specs_wanted(history: History) -> None:
    World().play(history)


@given(_HISTORIES)
def test_a_deployment_settles_by_its_deadlines_alone(history: History) -> None:
    world = World()
    world.play(history)
    for _ in range(8):
        world.now_s += 700.0
        world.turn()
    assert world.deployment.phase in SETTLED, world.deployment


@given(_HISTORIES)
def test_nodes_that_obey_bring_the_last_order_about(history: History) -> None:
    world = World()
    world.play(history)
    world._order("submit", (A2, B2), True)
    number = world.number
    for _ in range(40):
        world.now_s += 1.0
        world.obey()
    assert (world.deployment.phase, world.deployment.revision) == (Phase.RUNNING, number), world.deployment
    assert world.deployment.leaving == ()
    ran = _stopped_for_good(world.deployment, world.seen)
    assert ran == {A2, B2}, "and a stop ends it"


def _stopped_for_good(deployment: Deployment, seen: Observed) -> set[Copy]:
    step = reconcile(stopped(deployment, 10_000.0)[0], seen, 10_000.0)
    return {copy for copy, want in step.wanted.items() if want.wanted is Wanted.STOPPED or copy.depth > 0}
