"""A real disturbance of this machine, for the detector to find."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

BUSY_PERCENT = 50.0
"""Where one record in ten is above this, a CPU burn would hardly stand out."""
_BURN = "while True: sum(range(10000))"
_BURST_BLOCK = b"x" * 2**20


def busy(record: Path) -> bool:
    """Whether the processor was busy already while `record` was taken."""
    cpu: list[float] = sorted(orjson.loads(line)["cpu"] for line in record.read_bytes().splitlines())
    return cpu[len(cpu) * 9 // 10] > BUSY_PERCENT


@contextmanager
def cpu_burn() -> Iterator[None]:
    """Every core busy while inside."""
    burners = [subprocess.Popen([sys.executable, "-c", _BURN]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@contextmanager
def network_burst() -> Iterator[None]:
    """As many bytes over loopback as it takes while inside."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            sender.sendall(_BURST_BLOCK)
        sender.close()

    def receive() -> None:
        while receiver.recv(2**20):
            continue

    threads = [threading.Thread(target=work, daemon=True) for work in (send, receive)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        receiver.close()
