"""A stand-in for `python -m fogline.runtimes`: speaks its command line and its control socket, computes nothing.

What it does is told by environment variables, which a spec carries:
FAKE_FINISHED (reason left behind at the end of its input; with a file `more` in the workspace there is more),
FAKE_CHECK (`ok`, `hang` or the reason of a failure), FAKE_LOAD_S, FAKE_EXIT (exit code at once),
FAKE_FAILURE (reason left behind), FAKE_DRAIN (`ok` or `never`), FAKE_TERM (`ignore`), FAKE_LOST (error of
a connection), FAKE_AWAY (the same, from the start: it waits for the broker), FAKE_MUTE (never opens its
socket), FAKE_SETTLED (records done), FAKE_PID (what it says its pid is). Files in the workspace tell it while
it runs: `deny` (its nonce), `mute` (answer no more), `stalled` (holds the seconds without progress). Where
another one runs in the same workspace it leaves a file `two-copies`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO


def told(name: str, default: str = "") -> str:
    return os.environ.get(f"FAKE_{name}", default)


class Stage:
    def __init__(self, workspace: Path, *, bind: bool) -> None:
        self.workspace = workspace
        self.state = "loading"
        self.bind = bind
        self.draining = False
        self.digest = ""

    def run(self) -> None:
        started = time.monotonic()
        while not self.draining:
            if (
                self.state == "loading"
                and not told("AWAY")
                and time.monotonic() - started >= float(told("LOAD_S", "0"))
            ):
                self.state = "loaded"
            if self.state == "loaded" and self.bind:
                self.state = "ready"
            time.sleep(0.01)
        self.state = "draining"
        time.sleep(0.05)

    def serve(self) -> None:
        os.chdir(self.workspace)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("control.sock")
            listener.listen()
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as stream:
            for line in stream:
                request = json.loads(line)
                while (self.workspace / "mute").exists():
                    time.sleep(0.01)
                try:
                    self.answer(stream, request)
                except BrokenPipeError:
                    return

    def answer(self, stream: TextIO, request: dict[str, Any]) -> None:
        op, number = request["op"], request["id"]
        if op == "tap":
            say(stream, {"id": number, "ok": True})
            for index in range(request["count"] or 10_000):
                say(stream, {"id": number, "record": {"n": index, "queue": request["queue"]}})
            if request["count"]:
                say(stream, {"id": number, "last": True})
            return
        replies = {"hello": self.hello, "status": self.status, "bind": self.on_bind, "drain": self.on_drain}
        replies |= {"replay": self.on_replay}
        reply = replies[op](request) if op in replies else {"ok": False, "error": f"unknown op {op}"}
        say(stream, {"id": number, **reply})

    def hello(self, request: dict[str, Any]) -> dict[str, Any]:
        nonce = (self.workspace / "nonce").read_text()
        if (self.workspace / "deny").exists() or request["nonce"] != nonce:
            return {"ok": False, "error": "that is not my nonce"}
        return {"ok": True, "pid": int(told("PID", str(os.getpid())))}

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        done = int(told("SETTLED", "3"))
        counters = {"in": done, "done": done}
        return {
            "ok": True,
            "state": self.state,
            "reason": "",
            "pid": os.getpid(),
            "stalled_s": self.stalled_s(),
            "stages": [{"name": "clean", "counters": counters, "p50_s": 0.001, "p99_s": 0.002}],
            "connections": [] if self.state == "loading" and not told("AWAY") else [self.connection()],
        }

    def connection(self) -> dict[str, Any]:
        error = told("LOST") or told("AWAY")
        read = {"reader": "clean", "lag": 7, "oldest_s": None}
        return {"queue": "raw", "connected": not error, "error": error, **read}

    def stalled_s(self) -> float:
        told_in = self.workspace / "stalled"
        return float(told_in.read_text() or 0) if told_in.exists() else 0.0

    def on_bind(self, _: dict[str, Any]) -> dict[str, Any]:
        self.bind = True
        return {"ok": True}

    def on_drain(self, _: dict[str, Any]) -> dict[str, Any]:
        self.draining = told("DRAIN") != "never"
        return {"ok": True}

    def on_replay(self, request: dict[str, Any]) -> dict[str, Any]:
        accepted = [number for number in request["letters"] if number != 13]
        print(f"replays {accepted}", flush=True)
        return {"ok": True, "accepted": len(accepted)}


def say(stream: TextIO, document: dict[str, Any]) -> None:
    stream.write(json.dumps(document) + "\n")
    stream.flush()


def run(arguments: list[str]) -> int:
    workspace = Path(arguments[arguments.index("--workspace") + 1])
    alone = (workspace / "only-one").open("w")
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (workspace / "two-copies").touch()
    print(f"stage starts as {os.getpid()}", flush=True)
    if told("TERM") == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told("FAILURE"):
        (workspace / "failure.json").write_text(json.dumps({"reason": told("FAILURE"), "stage": "clean"}))
    if told("FINISHED") and not (workspace / "more").exists():
        counted = {"name": "clean", "counters": {"in": 9, "done": 9}, "p50_s": 0.001, "p99_s": 0.002}
        (workspace / "finished.json").write_text(json.dumps({"reason": told("FINISHED"), "stages": [counted]}))
        return 0
    if told("EXIT"):
        return int(told("EXIT"))
    stage = Stage(workspace, bind="--bind" in arguments)
    if not told("MUTE"):
        threading.Thread(target=stage.serve, daemon=True).start()
    stage.run()
    return 0


def check() -> int:
    verdict = told("CHECK", "ok")
    print("a library that talks on standard output")
    if verdict == "hang":
        time.sleep(600)
    if verdict == "ok":
        print(json.dumps({"ok": True}))
        return 0
    print(json.dumps({"ok": False, "stage": "clean", "reason": verdict}))
    return 65


def dead_letters(file: Path, action: str, rest: list[str]) -> int:
    """The file is a JSON list here."""
    if not file.exists():
        return 0
    letters = json.loads(file.read_text())
    if letters == "corrupt":
        print("2026-01-31T12:00:00.123Z ERROR dead letters: file is not a database", file=sys.stderr)
        return 1
    if action in {"list", "show"}:
        limit = int(rest[1]) if rest[:1] == ["--limit"] else len(letters)
        numbers = [] if action == "list" else [int(each) for each in rest]
        for letter in [each for each in letters if not numbers or each["number"] in numbers][:limit]:
            print(json.dumps(letter if action == "list" else letter | {"payload": "p" * 1000, "encoding": "utf-8"}))
        return 0
    kept = [each for each in letters if action == "discard" and rest and str(each["number"]) not in rest]
    file.write_text(json.dumps(kept))
    print(json.dumps({"discarded": len(letters) - len(kept)}))
    return 0


def publish() -> int:
    for confirmed, line in enumerate(sys.stdin, start=1):
        if json.loads(line) == "poison":
            print(json.dumps({"error": "no broker at localhost:1883"}), flush=True)
            return 69
        print(json.dumps({"confirmed": confirmed}), flush=True)
    return 0


if __name__ == "__main__":
    command = sys.argv[1]
    commands: dict[str, Callable[[], int]] = {
        "run": lambda: run(sys.argv),
        "check": check,
        "publish": publish,
        "dead-letters": lambda: dead_letters(Path(sys.argv[2]), sys.argv[3], sys.argv[4:]),
    }
    sys.exit(commands[command]())
