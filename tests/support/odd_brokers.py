"""Brokers that are not mosquitto: amqtt, and some that are nothing but a socket and a bad habit."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fogline.runtimes.mqtt.reasons import TAKEN_OVER
from support.mosquitto import free_port
from support.segments import DEADLINE_S, wait_until

CONNACK = b"\x20\x03\x00\x00\x00"
AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
config = {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
          "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}}
async def main():
    broker = Broker(config)
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextmanager
def amqtt(log_path: Path) -> Iterator[int]:
    """amqtt, which speaks 3.1.1 only; its port."""
    port = free_port()
    with log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", AMQTT, str(port)], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), "amqtt answers")
        yield port
    finally:
        process.kill()
        process.wait()


def take_over(server: socket.socket, connected: threading.Event) -> None:
    """CONNACK, then DISCONNECT with reason 0x8E, as a version 5 broker does."""
    probe, _ = server.accept()
    with probe:
        probe.recv(4096)
        probe.sendall(CONNACK)
    peer, _ = server.accept()
    with peer:
        peer.recv(4096)
        peer.sendall(CONNACK)
        connected.wait(DEADLINE_S)
        peer.sendall(b"\xe0\x01" + bytes([TAKEN_OVER]))
        peer.recv(4096)


def welcome_for(server: socket.socket, keep_alive_s: int, heard: list[bytes]) -> None:
    """Asks for signs of life at least so often; keeps what comes first after CONNECT."""
    probe, _ = server.accept()
    with probe:
        probe.recv(4096)
        probe.sendall(CONNACK)
    peer, _ = server.accept()
    with peer:
        peer.settimeout(DEADLINE_S)
        peer.recv(4096)
        peer.sendall(b"\x20\x06\x00\x00\x03\x13" + keep_alive_s.to_bytes(2, "big"))
        heard.append(peer.recv(4096))


def swallow(server: socket.socket, over: threading.Event) -> None:
    """Every connection is welcomed, read from, and never answered."""
    server.settimeout(0.2)
    with ExitStack() as stack:
        taken = list[socket.socket]()
        while not over.is_set():
            with suppress(TimeoutError):
                peer = stack.enter_context(server.accept()[0])
                peer.recv(4096)
                peer.sendall(CONNACK)
                peer.setblocking(False)
                taken.append(peer)
            for each in taken:
                with suppress(OSError):
                    each.recv(65536)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
