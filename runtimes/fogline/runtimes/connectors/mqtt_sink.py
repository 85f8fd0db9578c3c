"""The writing end of an MQTT queue.

::

    item   waiting --published--> unconfirmed --PUBACK--> confirmed          with QoS 0: waiting --> confirmed
              ^------ held, then again, the oldest first ------' refused, or the connection is gone

With QoS 1 every item is kept until its PUBACK. With QoS 0 there is none: an item counts as confirmed when it is handed
to a connection that takes something, and is gone with that.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

from fogline.runtimes.connectors.backoff import Delays
from fogline.runtimes.connectors.base import Receipt, Sink
from fogline.runtimes.connectors.mqtt_end import MqttEnd, options_of
from fogline.runtimes.connectors.mqtt_metadata import properties_of
from fogline.runtimes.message import Item
from fogline.runtimes.mqtt.connection import Peer
from fogline.runtimes.mqtt.packets import V5, Publisher
from fogline.runtimes.mqtt.reasons import FAILED, NO_SUBSCRIBERS
from fogline.runtimes.poller import Poller
from fogline.runtimes.spec import EndpointSpec, SpecError

MAX_UNCONFIRMED = 4096
LOOK_AGAIN_S = 0.005
"""After which a connection that took nothing more is looked at again, with QoS 0."""


class _Open(NamedTuple):
    """An item on its way to the broker."""

    number: int
    item: Item
    receipt: Receipt


class MqttSink(MqttEnd, Sink):
    """Two places for an item: `_waiting`, and `_unconfirmed` between publish and PUBACK."""

    def __init__(self, endpoint: EndpointSpec, poller: Poller, peer: Peer) -> None:
        super().__init__(endpoint, poller, peer)
        if set("+#") & set(self._topic):
            raise SpecError(f"queue {endpoint.queue}: topic {self._topic} has a wildcard, so it can only be read")
        self._waiting: collections.deque[_Open] = collections.deque()
        self._unconfirmed: dict[int, _Open] = {}
        self._limit = MAX_UNCONFIRMED
        self._number = 0
        self._qos = int(options_of(endpoint)["qos"])
        self._publisher = Publisher(self._topic, V5, self._qos)
        self._delays = Delays()
        self._failed: list[_Open] = []
        """The broker refused these: send nothing until the back-off is over, then these first."""
        self._held = False
        self._refused = ""

    @property
    def error(self) -> str:
        return self._link.error or self._refused

    def send(self, items: Sequence[Item]) -> Receipt:
        with self._poller.lock:
            receipt = Receipt(len(items))
            for number, item in enumerate(items, self._number):
                self._waiting.append(_Open(number, item, receipt))
            self._number += len(items)
            self.after_read()
            self._link.flush()
        return receipt

    def on_up(self, receive_maximum: int) -> None:
        self._limit = min(MAX_UNCONFIRMED, receive_maximum)
        self._publisher = Publisher(self._topic, self._link.version or V5, self._qos)

    def on_down(self) -> None:
        """Everything open goes again, from the oldest on."""
        self._failed.extend(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._take_back()

    def on_puback(self, mid: int, reason: int) -> None:
        sent = self._unconfirmed.pop(mid, None)
        if sent is None:
            return  # an acknowledgement nobody waits for
        if reason >= FAILED or (reason == NO_SUBSCRIBERS and self.endpoint.read_by_stage):
            self._hold(sent, reason)
            return
        sent.receipt.unrouted += reason == NO_SUBSCRIBERS
        sent.receipt.left -= 1
        self._refused = ""
        self._delays.reset()

    def after_read(self) -> None:
        """Publish what waits, as far as the broker's receive maximum allows."""
        if self._held or not self._waiting or self._link.client is None or not self._link.up:
            return
        if not self._qos:
            self._let_go()
            return
        waiting, unconfirmed = self._waiting, self._unconfirmed
        going = [waiting.popleft() for _ in range(min(len(waiting), self._limit - len(unconfirmed)))]
        records = [(properties_of(entry.item), entry.item.payload) for entry in going]
        mids = self._link.client.publish(self._publisher, records, unconfirmed)
        unconfirmed.update(zip(mids, going, strict=True))

    def _let_go(self) -> None:
        """QoS 0: nobody will say that it arrived. Not before the connection took what it was given last."""
        client = self._link.client
        if client is None or not self._link.up:
            return
        if client.unsent:
            self._poller.call_later(LOOK_AGAIN_S, self.after_read)
            return
        going = list(self._waiting)
        self._waiting.clear()
        client.publish(self._publisher, [(properties_of(entry.item), entry.item.payload) for entry in going], ())
        for entry in going:
            entry.receipt.left -= 1
        self._link.flush()

    def _hold(self, sent: _Open, reason: int) -> None:
        self._failed.append(sent)
        if reason == NO_SUBSCRIBERS:
            words = f"nobody is subscribed to {self._topic}"
        else:
            words = f"publishing to {self._topic} was refused with reason {reason:#04x}"
        self._refused = f"broker {self._link.place}: {words}"
        if not self._held:
            self._held = True
            self._poller.call_later(self._delays.next_s(), self._release)

    def _release(self) -> None:
        self._held = False
        self._take_back()
        self.after_read()
        self._link.flush()

    def _take_back(self) -> None:
        self._waiting.extendleft(sorted(self._failed, reverse=True))
        self._failed.clear()
