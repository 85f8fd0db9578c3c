"""Runtimes with one promise broken, so that the tests can be seen to notice.

As `python mutants.py NAME run SPEC ...` it is `python -m fogline.runtimes run SPEC ...` with that one change. As
`python mutants.py run ...`, with the name in MUTANT, it is a `fogline-agent` whose stages run so.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

VARIABLE = "MUTANT"


def automatic_ack() -> None:
    """Acknowledges on arrival, as most clients do by default; what is in hand at a crash is gone."""
    from fogline.runtimes.connectors import mqtt
    from fogline.runtimes.mqtt.decoder import Publish

    kept = mqtt.MqttSource.on_publish

    def on_publish(self: mqtt.MqttSource, publish: Publish) -> None:
        kept(self, publish)
        client = self._link.client
        if publish.mid and client is not None:
            client.ack([publish.mid])

    mqtt.MqttSource.on_publish = on_publish  # type: ignore[method-assign]
    mqtt.MqttSource.ack = lambda self, messages: None  # type: ignore[method-assign]


def early_ack() -> None:
    """Acknowledges once processed and handed to the connector, before the next broker has confirmed."""
    from fogline.runtimes import inlets

    inlets.Batch.confirmed = property(lambda self: not self.unsent)  # type: ignore[assignment, method-assign]


def automatic_link_ack() -> None:
    """The reader of a link acknowledges on arrival."""
    from fogline.runtimes.connectors.websocket_source import WebSocketSource
    from fogline.runtimes.message import Message

    kept, acknowledge = WebSocketSource._arrive, WebSocketSource.ack

    def arrive(self: WebSocketSource, message: Message) -> None:
        kept(self, message)
        acknowledge(self, [message])

    WebSocketSource._arrive = arrive  # type: ignore[method-assign]
    WebSocketSource.ack = lambda self, messages: None  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "automatic-ack": automatic_ack,
    "early-ack": early_ack,
    "automatic-link-ack": automatic_link_ack,
}
OF_LINKS = {"automatic-link-ack"}
"""Those that break a promise of acknowledged links."""


def _as_runtime(name: str) -> int:
    from fogline.runtimes.__main__ import main

    MUTANTS[name]()
    sys.argv.pop(1)
    return main()


def _as_agent(name: str) -> None:
    from fogline.agent import cli, daemon

    daemon.run = functools.partial(daemon.run, runtime=(sys.executable, os.path.abspath(__file__), name))
    cli.main()


if __name__ == "__main__":
    if sys.argv[1] in MUTANTS:
        sys.exit(_as_runtime(sys.argv[1]))
    _as_agent(os.environ[VARIABLE])
