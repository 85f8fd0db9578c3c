"""The opening handshake: who comes in, under which name, as a link or plainly.

Both sides say their client id in a header, also in a refusal. An end whose other end is a stage of the same document
deals with that one alone: somebody else's reader would take records away, a foreign one would get less than was
promised.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from fogline.runtimes.connectors.websocket_frames import FRAME_LIMIT_BYTES, LINK

_library = logging.getLogger("fogline.websocket.protocol")
_library.setLevel(logging.WARNING)  # it tells of every connection

NAME_HEADER = "Fogline-Name"
SHOWN_LETTERS = 200


@dataclass(frozen=True)
class Patience:
    """How long the other side may take."""

    open_s: float = 10.0
    ping_s: float = 20.0
    """Between two pings, and for the answer to one."""
    leave_s: float = 1.0


@dataclass(frozen=True)
class Manners:
    """How an end greets. `link` and `plain`: which kinds of peer it deals with."""

    name: str
    topic: str
    link: bool
    plain: bool
    patience: Patience = Patience()

    @property
    def path(self) -> str:
        """The path of its URL, readable."""
        return "/" + self.topic.lstrip("/")

    def fits(self, subprotocol: str | None, name: str) -> bool:
        """Whether a peer of this name is welcome. A link's other end is one of this very queue:
        `fogline.CLUSTER.PIPELINE.STAGE.QUEUE...`"""
        ours, theirs = self.name.split("."), name.split(".")
        same = len(ours) > 4 and [*ours[1:3], ours[4]] == [*theirs[1:3], *theirs[4:5]]
        return self.plain or (subprotocol == LINK and same)

    def of_same_pipeline(self, name: str) -> bool:
        """Whether that name belongs to an endpoint of this pipeline, of whatever revision."""
        return self.name.split(".")[:3] == name.split(".")[:3]


def url(host: str, port: int, path: str) -> str:
    """Where it is, for machines and people."""
    return f"ws://[{host}]:{port}{path}" if ":" in host else f"ws://{host}:{port}{path}"


def server_wire(manners: Manners) -> ServerProtocol:
    """The library's half of a connection that was accepted."""
    offered = _offered(manners)
    return ServerProtocol(subprotocols=offered, select_subprotocol=_chosen, max_size=FRAME_LIMIT_BYTES, logger=_library)


def client_wire(host: str, port: int, manners: Manners) -> ClientProtocol:
    """The library's half of a connection that we made; it has its request to send."""
    uri = parse_uri(url(host, port, quote(manners.path)))
    wire = ClientProtocol(uri, subprotocols=_offered(manners), max_size=FRAME_LIMIT_BYTES, logger=_library)
    request = wire.connect()
    request.headers[NAME_HEADER] = manners.name
    wire.send_request(request)
    return wire


def answer(wire: ServerProtocol, request: Request, manners: Manners) -> tuple[str, str]:
    """Let the peer in or refuse it; returns its name, and how it was refused."""
    name = _named(request.headers)
    if unquote(request.path.partition("?")[0]) != manners.path:
        response = wire.reject(HTTPStatus.NOT_FOUND, f"The path of this queue is {manners.path}\n")
    else:
        response = _accepted(wire, request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and not manners.fits(wire.subprotocol, name):
            words = "Only the stages of its pipeline have to do with this queue\n"
            response = wire.reject(HTTPStatus.FORBIDDEN, words)
    response.headers[NAME_HEADER] = manners.name
    wire.send_response(response)
    welcome = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
    return name, "" if welcome else f"was refused with HTTP {response.status_code}"


def _accepted(wire: ServerProtocol, request: Request) -> Response:
    try:
        return wire.accept(request)
    except Exception as error:  # noqa: BLE001 - the library stumbles over some headers (a subprotocol that is not UTF-8)
        return wire.reject(HTTPStatus.BAD_REQUEST, f"Not understood: {type(error).__name__}\n")


def answered(wire: ClientProtocol, response: Response, manners: Manners) -> tuple[str, str]:
    """What to make of the answer to our request: the peer's name, and why nothing comes of it."""
    name = _named(response.headers)
    if wire.handshake_exc is not None:
        return name, refusal(wire.handshake_exc)
    if manners.fits(wire.subprotocol, name):
        return name, ""
    return name, f"does not answer as the other end of this queue: it is {name or 'not of Fogline'}"


def refusal(error: Exception | None) -> str:
    """Why a handshake came to nothing, in words."""
    if isinstance(error, InvalidStatus):
        words = bytes(error.response.body or b"").decode(errors="replace").strip()[:SHOWN_LETTERS]
        return f"refused the handshake with HTTP {error.response.status_code}" + (f": {words}" if words else "")
    return f"no handshake: {error.__cause__ or error}" if error is not None else "hung up during the handshake"


def _named(headers: Headers) -> str:
    """A name may be said twice; reading it as from a mapping would raise."""
    return next(iter(headers.get_all(NAME_HEADER)), "")


def _offered(manners: Manners) -> list[Subprotocol] | None:
    return [Subprotocol(LINK)] if manners.link else None


def _chosen(wire: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """A peer that offers no link, or other things besides, is welcome as a foreign one."""
    known = wire.available_subprotocols or ()
    return next((each for each in offered if each in known), None)
