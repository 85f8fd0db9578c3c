"""The script that starts real brokers for people."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "servers.py"


@pytest.mark.broker
def test_brokers_are_where_it_says_and_gone_with_it() -> None:
    script = subprocess.Popen([sys.executable, str(SCRIPT)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert script.stdout is not None
    places = [script.stdout.readline().strip() for _ in range(2)]
    ports = [int(found[1]) for place in places if (found := re.fullmatch(r"(?:mqtt|kafka)://127.0.0.1:(\d+)", place))]
    assert len(ports) == 2, places
    for port in ports:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    os.kill(script.pid, signal.SIGINT)
    script.communicate(timeout=40)
    assert script.returncode == 0
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_an_unknown_broker_is_told() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "rabbit"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no broker rabbit; there are mosquitto and kafka" in done.stderr
