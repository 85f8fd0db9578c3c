"""The parent of one stage process, so that the stage outlives the agent. Standard library only.

Run as `python -I -S shim.py WORKSPACE COMMAND...` in a session of its own. It starts the command in a
process group of its own, notes who it is in `shim.json`, keeps the log short, and when the command ends
notes how in `exit.json`. It needs nothing from the agent: descriptor 3 is a lock on the workspace that
the agent took and the shim keeps for as long as it lives.

The command does not begin before it is noted: whoever dies at whatever moment, no stage runs that the next
agent would not find.

Signals: SIGTERM is passed on to the command; SIGINT and SIGHUP mean nothing here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

LOCK = 3
PR_SET_CHILD_SUBREAPER = 36
LOG_BYTES = 8 * 1024 * 1024
LOOK_S = 2.0
"""How often the size of the log is looked at."""
_FOR_THE_STAGE = [signal.SIGINT, signal.SIGHUP, signal.SIGPIPE]
"""Ignored here, by us or by Python, and at their default again in the stage."""


def main(workspace: str, command: list[str]) -> None:
    """Start `command`, wait for it, leave its exit behind."""
    os.chdir(workspace)
    os.set_inheritable(LOCK, False)
    os.closerange(LOCK + 1, 65536)
    become_subreaper()
    awaited = {signal.SIGCHLD, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    kills_before = memory_kills()
    if not can_start(command[0]):
        print(f"cannot start {command[0]}: no such program", file=sys.stderr, flush=True)
        write_durably("exit.json", {"code": 127, "signal": None, "at": time.time()})
        return
    pid, word = hold_back(command)
    note_identity(pid)
    with contextlib.suppress(BrokenPipeError):  # it was killed before it could begin: that is its end
        os.write(word, b"!")
    os.close(word)
    while not has_ended(pid):
        received = signal.sigtimedwait(awaited, LOOK_S)
        if received is not None and received.si_signo == signal.SIGTERM:
            os.kill(pid, signal.SIGTERM)
        reap_orphans(pid)
        rotate_log("stage.log")
    note_exit(pid, kills_before)


def can_start(program: str) -> bool:
    """Whether there is such a program; what else can be wrong with it shows as exit code 127."""
    folders = [""] if "/" in program else os.get_exec_path()
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders)


def hold_back(command: list[str]) -> tuple[int, int]:
    """The pid under which `command` runs as soon as a byte is written to the descriptor.

    If we die before that, it never runs.
    """
    held, word = os.pipe()
    pid = os.fork()
    if pid == 0:
        become_stage(command, held, word)
    os.setpgid(pid, pid)  # here too: it may be killed before it has come to do so itself
    os.close(held)
    return pid, word


def become_stage(command: list[str], held: int, word: int) -> None:
    """In the new process: wait for the word, then be the command. Does not return."""
    try:
        os.setpgid(0, 0)
        os.close(word)
        if os.read(held, 1):
            for number in _FOR_THE_STAGE:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def become_subreaper() -> None:
    """Children that the stage abandons come to us instead of to the machine's first process."""
    import ctypes  # the agent imports this module too and has no use for it

    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def note_identity(pid: int) -> None:
    """Say who we and the stage are, in terms that a reused pid cannot match."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    me = os.getpid()
    identity = {
        "shim_pid": me,
        "shim_start": start_ticks(me),
        "pid": pid,
        "start": start_ticks(pid),
        "boot_id": boot_id,
    }
    write_durably("shim.json", identity)


def note_exit(pid: int, kills_before: int) -> None:
    """End what is left of the stage's process group and family, then say how the stage ended."""
    os.killpg(pid, signal.SIGKILL)  # the stage itself is not reaped yet, so the group is still its own
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    while family := children():
        for child in family:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    code, number = (status, None) if status >= 0 else (None, -status)
    out_of_memory = number == signal.SIGKILL and memory_kills() > kills_before
    write_durably("exit.json", {"code": code, "signal": number, "oom": out_of_memory, "at": time.time()})


def memory_kills() -> int:
    """How often the kernel ended a process for lack of memory, in our control group and on the machine."""
    return sum(kills_in(path) for path in (group_events(), "/proc/vmstat"))


def kills_in(path: str) -> int:
    """The line `oom_kill N` of a file; 0 where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except OSError:  # no control groups, or an older kernel: then it is an ordinary SIGKILL
        return 0


def group_events() -> str:
    """Where the kernel counts the events of our control group (version 2)."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            group = next((line[3:].strip() for line in file if line.startswith("0::")), "/")
    except OSError:
        group = "/"
    return f"/sys/fs/cgroup{group.rstrip('/')}/memory.events"


def children() -> list[int]:
    """Our children now: what the stage left behind, also in sessions of its own."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without the list: the process group has to do
        return []


def has_ended(pid: int) -> bool:
    """Whether the stage ended; it stays unreaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def reap_orphans(stage: int) -> None:
    """Take note of ended processes that the stage left to us."""
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None or ended.si_pid == stage:
            return
        os.waitpid(ended.si_pid, 0)


def rotate_log(path: str) -> None:
    """Keep two pieces: past the limit the log is copied and cut, since the stage holds it open.

    The copy gets its name `.1` when the log is cut, so that a reader sees the one by the other.
    """
    try:
        if os.stat(path).st_size <= LOG_BYTES:
            return
        draft = path + ".1.draft"
        with open(path, "rb+") as log, open(draft, "wb") as former:
            while piece := log.read(1 << 20):
                former.write(piece)
            former.flush()
            log.truncate(0)
        os.replace(draft, path + ".1")
    except OSError as error:  # a full disk must not end the stage's parent
        print(f"cannot rotate {path}: {error}", file=sys.stderr, flush=True)


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot: with the boot id it tells a pid from its reuse."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def write_durably(path: str, document: dict[str, object]) -> None:
    """The file holds all of `document` or does not change, also over a power cut."""
    draft = f".{path}.draft"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
