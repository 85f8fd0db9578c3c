"""What a source has subscribed to at its broker.

::

    none --begin--> asked --SUBACK--> standing --leave--> leaving --UNSUBACK--> left
                      ^  \\--refused--> (again after 5 s)                  the session is read to its end
                      +-- every connect, also when the session is there

A lone reader subscribes plainly, one of several shares a subscription with the others. Who changes from one to the
other subscribes anew first and gives the old one up then: in between a message may come twice, but none is missed.
A broker that stopped may have forgotten shared subscriptions (mosquitto does), so each connect asks again.
"""

from __future__ import annotations

from enum import Enum

from fogline.runtimes.connectors.backoff import LONGEST_S
from fogline.runtimes.connectors.mqtt_link import Link
from fogline.runtimes.mqtt.packets import V311
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec

State = Enum("State", "NONE ASKED STANDING LEAVING LEFT")


class Subscription:
    """Used under the poller's lock."""

    def __init__(self, endpoint: EndpointSpec, topic: str, link: Link, poller: Poller) -> None:
        self.state = State.NONE
        self.refusal = ""
        self.begun = False
        shared = f"$share/{endpoint.group}/{topic}" if endpoint.group else ""
        self._wanted, self._other = (shared, topic) if endpoint.shared and shared else (topic, shared)
        self._topic = topic
        self._qos = int(endpoint.options.get("qos", 1))
        self._link = link
        self._poller = poller
        self._mid: int | None = None

    @property
    def standing(self) -> bool:
        """Confirmed, or given up on purpose."""
        return self.state in (State.STANDING, State.LEAVING, State.LEFT)

    @property
    def asked(self) -> bool:
        """An answer is owed."""
        return self._mid is not None

    def begin(self) -> None:
        """Subscribe, now and at every connect."""
        self.begun = True
        self.ask()

    def ask(self) -> None:
        """Send what the state calls for, if there is a connection."""
        client = self._link.client
        if not self.begun or client is None or not self._link.up:
            return
        self.refusal = ""
        if self.state in (State.LEAVING, State.LEFT):
            self._mid = client.unsubscribe(self._wanted)
        elif self._wanted != self._topic and client.version == V311:
            self._refuse("it speaks MQTT 3.1.1 only, where copies of a stage cannot share a subscription")
        else:
            self.state = State.ASKED
            self._mid = client.subscribe(self._wanted, self._qos)
        self._link.flush()

    def leave(self) -> None:
        """Nothing new is to come; what the broker keeps for this reader still does."""
        self.state = State.LEAVING
        self.ask()

    def on_down(self) -> None:
        self._mid = None

    def on_subscribed(self, mid: int, refusal: str) -> None:
        """From the link."""
        if mid != self._mid:
            return
        self._mid = None
        if refusal:
            self._refuse(refusal)
            return
        self.state = State.STANDING
        if self._other and self._link.session_present and self._link.client is not None:
            self._link.client.unsubscribe(self._other)

    def on_unsubscribed(self, mid: int) -> None:
        """From the link."""
        if mid == self._mid and self.state is State.LEAVING:
            self._mid, self.state = None, State.LEFT

    def _refuse(self, words: str) -> None:
        self.state = State.NONE
        self.refusal = f"broker {self._link.place} refused the subscription to {self._topic}: {words}"
        self._poller.call_later(LONGEST_S, self._ask_again)

    def _ask_again(self) -> None:
        if self.refusal:
            self.ask()
