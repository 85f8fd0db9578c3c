"""`run` for a segment that answers requests: the same control socket, states and counters, no pump.

::

    loading --stages loaded--> loaded --bind--> binding --listening--> ready --drain--> draining --> exit 0
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fogline.runtimes.assembly import load_stages
from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.control import Refused
from fogline.runtimes.counters import Counters
from fogline.runtimes.errors import Cut, NotConnected, StageUnusable
from fogline.runtimes.frameworks.base import Framework
from fogline.runtimes.garbage import collect_rarely
from fogline.runtimes.logs import log
from fogline.runtimes.progress import longest_stall
from fogline.runtimes.secrets import named
from fogline.runtimes.serving.app import Application
from fogline.runtimes.serving.chain import Chain, check_chain
from fogline.runtimes.serving.turns import Turns
from fogline.runtimes.spec import SegmentSpec, SegmentState, ServingSpec, StageSpec
from fogline.runtimes.state import StateFile
from fogline.runtimes.taps import Taps

if TYPE_CHECKING:
    from pathlib import Path

    from fogline.runtimes.serving.server import Server


class ServedSegment:
    """The composition root of a served segment. The control thread calls `status` and the requests only."""

    ended = False

    def __init__(self, spec: SegmentSpec, serving: ServingSpec, spec_digest: str, places: tuple[Path, Path]) -> None:
        """`places`: the workspace, and the artifacts."""
        self.spec = spec
        self.spec_digest = spec_digest
        self.queues = spec.queues
        self.taps = Taps()
        self._serving = serving
        self._artifacts = places[1]
        stages = [stage.name for stage in spec.stages]
        self._file = StateFile(places[0], stages, spec_digest, spec.batch.max_size)
        self._counters = Counters(stages, self._file.counters)
        self._frameworks: list[Framework] = []
        self._state = SegmentState.LOADING
        self._reason = ""
        self._revision = ""
        self._application: Application | None = None
        self._server: Server | None = None
        self._wanted = threading.Condition()
        self._bind = False
        self._drain_s: float | None = None

    def run(self) -> None:
        """From loading to the end. Returns when drained.

        Raises StageUnusable, SpecError or Cut.
        """
        loaded = load_stages(self.spec, self._artifacts)
        token = check(self._serving, [stage for stage, _ in loaded])
        self._frameworks = [framework for _, framework in loaded]
        collect_rarely()
        chain = Chain(loaded, self._counters, self.taps)
        turns = Turns(chain.run, self.spec.batch.max_size, self._serving.queue)
        self._application = Application(self._serving, chain, turns, self._counters, token)
        self._application.model.revision = self._revision
        self._enter(SegmentState.LOADED)
        if self._told():
            self._enter(SegmentState.BINDING)
            self._serve(self._application)

    def close(self) -> None:
        """The state file stays."""
        self._counters.close()
        self._file.close()

    # What other threads may ask -------------------------------------------------------------------

    def request_bind(self) -> None:
        with self._wanted:
            self._bind = True
            self._wanted.notify_all()

    def request_drain(self, deadline_s: float, _leaving: Collection[str] = ()) -> None:
        with self._wanted:
            self._drain_s = deadline_s
            self._wanted.notify_all()
        if self._application is not None:
            self._application.ready = False
        if self._server is not None:
            self._server.end(deadline_s)

    def request_replay(self, _numbers: Iterable[int]) -> int:
        raise Refused("a segment that answers requests keeps no dead letters: the caller got the error")

    def request_routes(self, revision: str) -> None:
        self._revision = revision
        if self._application is not None:
            self._application.model.revision = revision

    def status(self) -> dict[str, Any]:
        asked = self._application.requests.asked() if self._application is not None else {}
        stalled_s, stalled_stage = longest_stall((each.progress, each.stage.name) for each in self._frameworks)
        return {
            "state": SegmentState.DRAINING if self._drain_s is not None else self._state,
            "reason": self._reason,
            "pid": os.getpid(),
            "last_progress_s": stalled_s,
            "stalled_s": stalled_s,
            "stalled_stage": stalled_stage,
            "stages": [row | asked for row in self._counters.rows()],
            "connections": [],
        }

    # The way to ready and on ----------------------------------------------------------------------

    def _told(self) -> bool:
        """Wait to be told to bind; False: to end."""
        with self._wanted:
            self._wanted.wait_for(lambda: self._bind or self._drain_s is not None)
        return self._drain_s is None

    def _serve(self, application: Application) -> None:
        from fogline.runtimes.serving.certificate import Certificate
        from fogline.runtimes.serving.server import Server, listener

        certificate = Certificate(self._serving.tls_name) if self._serving.tls_name else None
        delays = Delays()
        while self._drain_s is None:
            try:
                sock = listener(self._serving.host, self._serving.port)
            except NotConnected as error:
                if self._reason != error.reason:
                    log.warning("%s; trying again", error.reason)
                self._reason = error.reason
                with self._wanted:
                    self._wanted.wait_for(lambda: self._drain_s is not None, delays.next_s())
                continue
            self._reason = ""
            server = Server(application, sock, self._serving.timeout_s, certificate)
            server.listening = lambda: self._enter(SegmentState.READY)
            self._server = server
            if self._drain_s is not None:
                server.end(self._drain_s)
            server.work()
            if server.cut:
                raise Cut(server.cut)
            return

    def _enter(self, state: SegmentState) -> None:
        self._state = state
        log.info("%s %s", self.spec.assignment_id, state)


def check(serving: ServingSpec, stages: Sequence[StageSpec]) -> str:
    """That the loaded stages could be served here; the token, empty without one.

    Raises StageUnusable without the libraries, SpecError without the secret or when the stages are no chain.
    """
    check_chain(stages)
    try:
        import fogline.runtimes.serving.server  # noqa: F401
    except ModuleNotFoundError as error:
        raise StageUnusable(
            serving.model, f"API mode needs {error.name}, which is not installed here: fogline[serving]"
        ) from error
    return named(serving.token_secret) if serving.token_secret else ""
