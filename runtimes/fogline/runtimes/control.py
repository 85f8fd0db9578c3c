"""The control socket: how the agent talks to a running segment.

`control.sock` in the workspace, mode 0600. One JSON object per line, `{"op": ..., "id": ...}`; one line
back with the same id, `{"id", "ok": true, ...}` or `{"id", "ok": false, "error"}`. A tap answers with
more lines, `{"id", "record"}`, and ends with `{"id", "last": true}`. An unknown op is an error. Any number
of connections; all are served by one thread, so that a slow asker holds up neither pump nor others.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from fogline.runtimes.errors import NotKept
from fogline.runtimes.spec import CONTROL_VERSION
from fogline.runtimes.taps import Tap, Taps

SOCKET = "control.sock"
NONCE = "nonce"
LINE_LIMIT_BYTES = 64 * 1024
UNREAD_LIMIT_BYTES = 4 * 1024 * 1024
TAP_LOOK_S = 0.05
DRAIN_S = 30.0


class Refused(Exception):
    """Becomes `{"ok": false, "error": ...}`."""


class Segment(Protocol):
    """What the socket needs of the running segment. Called from the control thread; returns at once."""

    spec_digest: str
    taps: Taps
    queues: tuple[str, ...]

    def status(self) -> dict[str, Any]: ...
    def request_bind(self) -> None: ...
    def request_drain(self, deadline_s: float, leaving: Collection[str] = ()) -> None: ...
    def request_replay(self, numbers: Iterable[int]) -> int: ...
    def request_routes(self, revision: str) -> None: ...


class _Asker:
    """One connection: bytes in, bytes out, and the taps it has open."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming = b""
        self.outgoing = b""
        self.taps: dict[Any, Tap] = {}


class ControlServer:
    """`start` it, `stop` it; in between it answers."""

    def __init__(self, workspace: Path, segment: Segment) -> None:
        self._workspace = workspace
        self._segment = segment
        self._selector = selectors.DefaultSelector()
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._askers: dict[socket.socket, _Asker] = {}
        self._listener = _listen(workspace)
        self._ops: Mapping[str, Callable[[_Asker, dict[str, Any]], dict[str, Any] | None]] = {
            "hello": self._hello,
            "status": lambda _asker, _request: self._segment.status(),
            "bind": self._bind,
            "drain": self._drain,
            "tap": self._tap,
            "replay": self._replay,
            "routes": self._routes,
        }
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stop_read, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Hang up on everybody and take the socket file away."""
        os.write(self._stop_write, b"\0")
        self._thread.join()
        for asker in list(self._askers.values()):
            self._hang_up(asker)
        self._selector.close()
        self._listener.close()
        os.close(self._stop_read)
        os.close(self._stop_write)
        (self._workspace / SOCKET).unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            tapping = any(asker.taps for asker in self._askers.values())
            for key, events in self._selector.select(TAP_LOOK_S if tapping else None):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._stop_read:
                    return
                else:
                    self._serve(key.data, events)
            for asker in list(self._askers.values()):
                self._pour(asker)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        asker = self._askers[sock] = _Asker(sock)
        self._selector.register(sock, selectors.EVENT_READ, asker)

    def _serve(self, asker: _Asker, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._read(asker)
            if events & selectors.EVENT_WRITE:
                self._write(asker)
        except OSError:  # the asker went away in the middle; nobody is left to tell
            self._hang_up(asker)

    def _read(self, asker: _Asker) -> None:
        received = asker.sock.recv(65536)
        *lines, asker.incoming = (asker.incoming + received).split(b"\n")
        if not received or len(asker.incoming) > LINE_LIMIT_BYTES:
            self._hang_up(asker)
            return
        for line in lines:
            if line.strip():
                self._say(asker, self._answer(asker, line))

    def _answer(self, asker: _Asker, line: bytes) -> dict[str, Any]:
        ident: Any = None
        try:
            request = json.loads(line)
            ident, op = request["id"], request["op"]
            if op not in self._ops:
                raise Refused(f"unknown op {op!r}")
            answer = self._ops[op](asker, request)
        except Refused as error:
            return {"id": ident, "ok": False, "error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"id": ident, "ok": False, "error": f"not a request: {error!r}"}
        return {"id": ident, "ok": True} | (answer or {})

    def _hello(self, _asker: _Asker, request: dict[str, Any]) -> dict[str, Any]:
        """Tells this process from another that got its pid or its folder."""
        file = self._workspace / NONCE
        nonce = file.read_text().strip() if file.is_file() else ""
        if request["nonce"] != nonce:
            raise Refused("the nonce is not this workspace's")
        if abs(int(request["version"]) - CONTROL_VERSION) > 1:
            raise Refused(
                f"this process speaks control version {CONTROL_VERSION}, not {request['version']}: restart it"
            )
        return {"pid": os.getpid(), "version": CONTROL_VERSION, "spec_digest": self._segment.spec_digest}

    def _bind(self, _asker: _Asker, _request: dict[str, Any]) -> None:
        self._segment.request_bind()

    def _drain(self, _asker: _Asker, request: dict[str, Any]) -> None:
        self._segment.request_drain(float(request.get("deadline_s", DRAIN_S)), request.get("leaving", ()))

    def _replay(self, _asker: _Asker, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"accepted": self._segment.request_replay([int(each) for each in request["letters"]])}
        except NotKept as error:
            raise Refused(error.reason) from None

    def _routes(self, _asker: _Asker, request: dict[str, Any]) -> None:
        """The pipeline's revision, no part of the spec: a process outlives revisions that leave it as it is."""
        self._segment.request_routes(str(request["revision"]))

    def _tap(self, asker: _Asker, request: dict[str, Any]) -> None:
        queue, count = request["queue"], int(request["count"])
        if queue not in self._segment.queues:
            raise Refused(f"no queue {queue!r} here; there are {', '.join(self._segment.queues)}")
        tap = asker.taps[request["id"]] = Tap(queue, count if count > 0 else sys.maxsize)
        self._segment.taps.add(tap)

    def _pour(self, asker: _Asker) -> None:
        """Send what an asker's taps have caught; a slow asker loses records, not the segment memory."""
        for ident, tap in list(asker.taps.items()):
            if len(asker.outgoing) < UNREAD_LIMIT_BYTES:
                for record in tap.take():
                    self._say(asker, {"id": ident} | record)
            if tap.done:
                asker.taps.pop(ident, None)
                self._segment.taps.remove(tap)
                self._say(asker, {"id": ident, "last": True})

    def _say(self, asker: _Asker, answer: dict[str, Any]) -> None:
        if asker.sock.fileno() != -1:
            asker.outgoing += orjson.dumps(answer) + b"\n"
            self._serve(asker, selectors.EVENT_WRITE)

    def _write(self, asker: _Asker) -> None:
        try:
            sent = asker.sock.send(asker.outgoing)
        except BlockingIOError:
            sent = 0
        asker.outgoing = asker.outgoing[sent:]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if asker.outgoing else 0)
        self._selector.modify(asker.sock, wanted, asker)

    def _hang_up(self, asker: _Asker) -> None:
        for tap in asker.taps.values():
            self._segment.taps.remove(tap)
        asker.taps.clear()
        if self._askers.pop(asker.sock, None) is not None:
            self._selector.unregister(asker.sock)
            asker.sock.close()


def _listen(workspace: Path) -> socket.socket:
    """Bound through `/proc/self/fd`: a socket's path holds 108 bytes, a workspace's may be longer."""
    folder = os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        (workspace / SOCKET).unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # before bind: the file never exists with another mode
        listener.bind(f"/proc/self/fd/{folder}/{SOCKET}")
        listener.listen(16)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener
