"""Reason codes in words (MQTT 5.0, section 2.4), and the return codes of a 3.1.1 CONNACK as the same codes."""

from __future__ import annotations

from collections.abc import Mapping

SUCCESS = 0x00
NO_SUBSCRIBERS = 0x10
FAILED = 0x80
"""From here on a reason is a refusal."""
UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E

_WORDS: Mapping[int, str] = {
    0x00: "Normal disconnection",
    0x04: "Disconnect with will message",
    0x10: "No matching subscribers",
    0x80: "Unspecified error",
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x83: "Implementation specific error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8A: "Banned",
    0x8B: "Server shutting down",
    0x8C: "Bad authentication method",
    0x8D: "Keep alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic filter invalid",
    0x90: "Topic name invalid",
    0x91: "Packet identifier in use",
    0x92: "Packet identifier not found",
    0x93: "Receive maximum exceeded",
    0x94: "Topic alias invalid",
    0x95: "Packet too large",
    0x96: "Message rate too high",
    0x97: "Quota exceeded",
    0x98: "Administrative action",
    0x99: "Payload format invalid",
    0x9A: "Retain not supported",
    0x9B: "QoS not supported",
    0x9C: "Use another server",
    0x9D: "Server moved",
    0x9E: "Shared subscriptions not supported",
    0x9F: "Connection rate exceeded",
    0xA0: "Maximum connect time",
    0xA1: "Subscription identifiers not supported",
    0xA2: "Wildcard subscriptions not supported",
}
_OLD_CONNACK: Mapping[int, int] = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}


def words(reason: int) -> str:
    """The specification's name of a reason code; its number where it has none."""
    return _WORDS.get(reason, f"reason {reason:#04x}")


def of_old_connack(code: int) -> int:
    """The reason code for the return code of a 3.1.1 CONNACK (MQTT 3.1.1, section 3.2.2.3)."""
    return _OLD_CONNACK.get(code, FAILED if code else SUCCESS)
