"""Calls a copy in API mode as any caller would: `POST /predict` at its own port, with the token of its secret."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fogline.agent.copies import Copy
from fogline.agent.preparation import read_spec
from fogline.runtimes.spec import SECRETS_VARIABLE, TLS_FILES, TLS_VARIABLE, ServingSpec
from fogline.wire.terms import CopyState, ErrorKind, FoglineError

if TYPE_CHECKING:
    from http.client import HTTPConnection

ANSWER_S = 70.0
"""A little more than the segment itself gives a request."""


async def predict(copy: Copy, body: bytes) -> tuple[int, bytes]:
    """HTTP status and body of the answer. Raises FoglineError when the copy serves nothing, or does not answer."""
    from http.client import HTTPConnection  # megabytes that an agent without such pipelines need not hold

    serving = read_spec(copy.wish).serving
    if serving is None:
        raise FoglineError(ErrorKind.INVALID_ARGUMENT, f"{copy.wish.id} reads queues: nothing can be asked of it")
    if copy.state is not CopyState.READY:  # whoever answers at its port then is somebody else
        sentence = f"{copy.wish.id} does not answer requests now: it is {copy.state}"
        raise FoglineError(ErrorKind.UNREACHABLE, f"{sentence}: {copy.reason}" if copy.reason else sentence)
    headers = {"Content-Type": "application/json"} | _login(serving)
    connection = HTTPConnection(serving.host or "localhost", serving.port, timeout=ANSWER_S)
    answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
    asking = (serving, connection, body, headers, answered)
    threading.Thread(target=_ask, args=asking, name="predict", daemon=True).start()
    try:
        return await answered
    except OSError as error:
        sentence = f"{copy.wish.id} does not answer at port {serving.port}: {error}"
        raise FoglineError(ErrorKind.UNREACHABLE, sentence) from error
    finally:
        if connection.sock is not None:  # whoever is cancelled takes the thread with it
            _hang_up(connection.sock)


def _login(serving: ServingSpec) -> dict[str, str]:
    if not serving.token_secret:
        return {}
    path = Path(os.environ.get(SECRETS_VARIABLE, "")) / serving.token_secret
    try:
        token = path.read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FoglineError(ErrorKind.FAILED, f"the secret {path} cannot be read: {error}") from error
    return {"Authorization": f"Bearer {token}"}


def _secure(connection: HTTPConnection, name: str) -> None:
    """Connect by TLS. It is asked at an address of this machine, and must show the certificate of this node."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(Path(os.environ.get(TLS_VARIABLE, "")) / TLS_FILES[0])
    connection.connect()
    connection.sock = context.wrap_socket(connection.sock, server_hostname=name)


def _ask(
    serving: ServingSpec,
    connection: HTTPConnection,
    body: bytes,
    headers: dict[str, str],
    answered: asyncio.Future[tuple[int, bytes]],
) -> None:
    """In a thread of its own: the shared ones are for what is short."""
    from http.client import HTTPException

    result: tuple[int, bytes] | OSError
    try:
        if serving.tls_name:
            _secure(connection, serving.tls_name)
        connection.request("POST", "/predict", body, headers)
        response = connection.getresponse()
        result = response.status, response.read()
    except OSError as error:
        result = error
    except HTTPException as error:
        result = OSError(f"no HTTP: {error!r}")
    finally:
        connection.close()
    answered.get_loop().call_soon_threadsafe(_settle, answered, result)


def _settle(answered: asyncio.Future[tuple[int, bytes]], result: tuple[int, bytes] | OSError) -> None:
    if answered.done():
        return
    if isinstance(result, OSError):
        answered.set_exception(result)
    else:
        answered.set_result(result)


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it is closed
        return
