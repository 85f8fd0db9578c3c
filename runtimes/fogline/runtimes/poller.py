"""One wait for everything: all sockets of the process, timers, and calls from other threads.

Sockets are driven by the thread that computes. The exception is a busy handler: then the keep-alive
thread runs a turn now and then, so that no broker gives this client up. It never waits for the lock,
so it does nothing while the pump itself is inside I/O.

::

    pump thread:        wait() ── connector calls ── [lock free: user code] ── wait() ...
    keep-alive thread:                                  turn every interval_s
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Any

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Poller:
    """A thin wrapper of `selectors`. `lock` guards every connector of the process: hold it for I/O."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._wake_lock = threading.RLock()
        self._closed = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, READ, None)
        self._keep_alive: _KeepAlive | None = None

    def watch(self, sock: Any, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever the socket is ready; again with other events to change them."""
        known = self._selector.get_map().get(sock)
        if known is None:
            self._selector.register(sock, events, callback)
        elif known.events != events or known.data != callback:
            self._selector.modify(sock, events, callback)

    def forget(self, sock: Any) -> None:
        """Stop watching; a socket that is not watched is fine."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Run `callback` inside a wait, `delay_s` from now."""
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), callback))

    def call_soon(self, callback: Callable[[], None]) -> bool:
        """Run `callback` inside the next wait. The only method, with `wake`, for other threads. False: the
        poller is closed, there will be no next wait."""
        with self._wake_lock:
            if not self._closed:
                self._calls.append(callback)
                self.wake()
            return not self._closed

    def wake(self) -> None:
        """End the present wait. Safe from any thread and from a signal handler."""
        with self._wake_lock, contextlib.suppress(BlockingIOError):  # a full pipe holds wake-ups enough
            if not self._closed:
                os.write(self._wake_write, b"\0")

    def wait(self, timeout_s: float) -> None:
        """Serve whatever is ready, waiting up to `timeout_s` for the first of it."""
        with self.lock:
            if self._timers:
                timeout_s = min(timeout_s, self._timers[0][0] - time.monotonic())
            for key, events in self._selector.select(max(0.0, timeout_s)):
                if key.data is None:
                    os.read(self._wake_read, 4096)
                else:
                    key.data(events)
            self._run_calls()
            self._run_timers()

    def keep_alive(self, interval_s: float) -> None:
        """Promise a turn at least about every `interval_s`, also while user code runs."""
        if self._keep_alive is None:
            self._keep_alive = _KeepAlive(self)
        self._keep_alive.shorten(interval_s)

    def close(self) -> None:
        if self._keep_alive is not None:
            self._keep_alive.stop()
        with self._wake_lock:
            self._closed = True
        self._run_calls()  # a connection that was just made must be hung up
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()


class _KeepAlive:
    """The tiny thread: one turn per interval, only when nobody else is inside I/O."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._interval_s = 3600.0
        self._changed = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="keep-alive", daemon=True)

    def shorten(self, interval_s: float) -> None:
        self._interval_s = min(self._interval_s, interval_s)
        if not self._thread.is_alive():
            self._thread.start()
        self._changed.set()

    def stop(self) -> None:
        self._stopped = True
        self._changed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped:
            if self._changed.wait(self._interval_s):
                self._changed.clear()
            elif self._poller.lock.acquire(blocking=False):
                try:
                    self._poller.wait(0.0)
                    self._poller.wake()  # what was served here must not be waited for in the pump
                finally:
                    self._poller.lock.release()
