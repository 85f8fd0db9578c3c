from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fogline.runtimes.poller import READ, Poller
from support.segments import holds, wait_until


@pytest.fixture
def poller() -> Iterator[Poller]:
    made = Poller()
    yield made
    made.close()


def test_one_wait_serves_sockets_timers_and_calls(poller: Poller) -> None:
    served: list[str] = []
    left, right = socket.socketpair()
    with left, right:
        poller.watch(left, READ, lambda _events: served.append(left.recv(9).decode()))
        right.send(b"socket")
        poller.call_later(0.0, lambda: served.append("timer"))
        poller.call_soon(lambda: served.append("call"))
        poller.wait(0.0)
        poller.wait(0.0)
        assert sorted(served) == ["call", "socket", "timer"]
        poller.forget(left)
    poller.forget(left)


def test_a_timer_ends_the_wait_in_time_and_in_order(poller: Poller) -> None:
    served: list[int] = []
    poller.call_later(0.02, lambda: served.append(2))
    poller.call_later(0.01, lambda: served.append(1))
    started = time.monotonic()
    while len(served) < 2:
        poller.wait(10.0)
    assert served == [1, 2]
    assert time.monotonic() - started < 5


def test_wake_from_another_thread_ends_the_wait(poller: Poller) -> None:
    threading.Timer(0.02, poller.wake).start()
    started = time.monotonic()
    poller.wait(10.0)
    assert time.monotonic() - started < 5


def test_the_keep_alive_thread_turns_while_nobody_waits_and_only_then(poller: Poller) -> None:
    turned: list[str] = []
    poller.keep_alive(0.01)
    with poller.lock:  # as while the pump is inside I/O
        poller.call_soon(lambda: turned.append(threading.current_thread().name))
        holds(lambda: turned == [], 0.1)
    wait_until(lambda: turned, "a turn of the keep-alive thread")
    assert turned == ["keep-alive"]


def test_after_close_nothing_is_taken_on() -> None:
    poller = Poller()
    poller.close()
    poller.wake()
    assert not poller.call_soon(lambda: None)
