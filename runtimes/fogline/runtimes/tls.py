"""Transport security of a queue: `props.tls`, whose parts are files on the node that needs them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fogline.runtimes.spec import EndpointSpec, SpecError


@dataclass(frozen=True)
class Tls:
    """PEM files: the authority that the other side is checked against, and what we show of ourselves."""

    ca: str = ""
    """Empty: the authorities that this machine trusts."""
    cert: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """For the connecting side; the name of the server is checked. Raises OSError."""
        made = ssl.create_default_context(cafile=self.ca or None)
        if self.cert:
            made.load_cert_chain(self.cert, self.key or None)
        return made


def tls_of(endpoint: EndpointSpec) -> Tls | None:
    """What the queue asks for; None: a plain connection.

    Raises SpecError, with the place and the reason, for a file that cannot be used.
    """
    given: Mapping[str, Any] | None = endpoint.options.get("tls")
    if given is None:
        return None
    found = Tls(**{part: str(given.get(part, "")) for part in ("ca", "cert", "key")})
    place = f"queue {endpoint.queue}: props.tls"
    for part in ("ca", "cert", "key"):
        path = getattr(found, part)
        if path and not Path(path).is_file():
            raise SpecError(f"{place}.{part}: there is no file {path} on this node")
    try:
        found.context()
    except (OSError, ValueError) as error:
        raise SpecError(f"{place}: the files cannot be used: {error}") from None
    return found
