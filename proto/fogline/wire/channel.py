"""Channel and server settings both ends must agree on (keepalive: gRFC A8 and A9).

A client that pings more often than the server allows is told GOAWAY too_many_pings, so both
numbers live here.
"""

from __future__ import annotations

import ipaddress

from fogline.wire.terms import ErrorKind, FoglineError

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
"""Artifacts and records travel in chunks of at most this size."""

_LIMITS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]

CLIENT_OPTIONS: list[tuple[str, int]] = [
    *_LIMITS,
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # what one attempt may take; the waits between them start at 200 ms
    ("grpc.max_reconnect_backoff_ms", 5_000),
]

SERVER_OPTIONS: list[tuple[str, int]] = [
    *_LIMITS,
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_concurrent_streams", 100),
]


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` or `[V6]:PORT` in its parts. Raises FoglineError for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{address!r} is not HOST:PORT, for example 127.0.0.1:7700")
    return host.strip("[]"), int(port)


def require_loopback(address: str, *, insecure: bool) -> None:
    """Without TLS only loopback is allowed, unless the operator says `--insecure`."""
    host, _ = split_address(address)
    if insecure or _is_loopback(host):
        return
    raise FoglineError(
        ErrorKind.REFUSED,
        f"{address} is not a loopback address and this release has no TLS yet: "
        "add --insecure to accept an unprotected connection",
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
