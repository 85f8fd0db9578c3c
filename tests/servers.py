"""A real mosquitto and a real Apache Kafka on free ports of this machine, until Ctrl-C.

    python tests/servers.py            # prints where they are; what it started is stopped with it, data and all
    python tests/servers.py --do python run.py --mqtt {mqtt} --kafka {kafka}       # until that command has ended

The tests start theirs through the same two classes. `tests/install-real-parts.sh` fetches what is missing.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support import kafka, mosquitto

BROKERS = ("mosquitto", "kafka")


def main() -> int:
    """Start, tell, wait, stop."""
    parser = argparse.ArgumentParser(description="Starts real brokers on free ports until Ctrl-C.")
    parser.add_argument("broker", nargs="*", metavar="BROKER", help=f"{' or '.join(BROKERS)}; both when none is named")
    parser.add_argument("--do", nargs=argparse.REMAINDER, default=[], metavar="COMMAND", help="run it and end")
    given = parser.parse_args()
    wanted = given.broker or BROKERS
    if unknown := sorted(set(wanted) - set(BROKERS)):
        parser.error(f"no broker {unknown[0]}; there are {' and '.join(BROKERS)}")
    if "kafka" in wanted and kafka.missing():
        parser.error(f"{kafka.missing()} is missing: run tests/install-real-parts.sh")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: over.set())
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="fogline-brokers-")))
        urls = {}
        if "mosquitto" in wanted:
            urls["mqtt"] = running.enter_context(mosquitto.Mosquitto(folder / "mosquitto")).url
        if "kafka" in wanted:
            urls["kafka"] = running.enter_context(kafka.Kafka(folder / "kafka")).url
        if given.do:
            addresses = {name: url.partition("://")[2] for name, url in urls.items()}
            return subprocess.run([word.format(**addresses) for word in given.do], check=False).returncode
        print(*urls.values(), sep="\n", flush=True)
        print("Ctrl-C stops them", file=sys.stderr, flush=True)
        over.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
