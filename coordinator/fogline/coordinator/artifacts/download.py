"""Models from https addresses, kept in the user's cache under their digests.

The submitter fetches, with the rights and from the place of the person who wrote the document: addresses of this
machine and of the private network are as good as any. A server that fetched for others would have to refuse them.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from fogline.coordinator.artifacts.cache import alone_in, cache_folder
from fogline.coordinator.padl.addresses import ModelAddress
from fogline.wire.terms import ErrorKind, FoglineError

SIZE_LIMIT_BYTES = 4 * 2**30
SILENCE_S = 60.0
"""How long a server may send nothing."""
ATTEMPTS = 3
"""A transfer that breaks off goes on where it was, this often."""
_REDIRECTS = 3
_BLOCK_BYTES = 2**20
_RANGE = re.compile(r"bytes (\d+)-")


def download(address: ModelAddress) -> Path:
    """The file behind the address, on this machine and verified.

    Raises FoglineError for what cannot be fetched and for bytes that are not those that are meant.
    """
    folder = cache_folder("models")
    whole, part = folder / address.sha256, folder / f"{address.sha256}.part"
    with alone_in(folder):
        if whole.is_file() and _digest(whole) == address.sha256:
            return whole
        begun = part.exists()
        _fetch(address, part)
        found = _digest(part)
        if found != address.sha256 and begun:
            part.unlink()  # its beginning may be from another time
            _fetch(address, part)
            found = _digest(part)
        if found != address.sha256:
            part.unlink()
            sentence = (
                f"{address.url} gives other bytes than are meant: their SHA-256 is {found}, "
                f"and the document says {address.sha256}"
            )
            raise FoglineError(ErrorKind.CORRUPT, sentence)
        part.replace(whole)
    return whole


def _fetch(address: ModelAddress, part: Path) -> None:
    """Complete `part`, which may hold the beginning."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _opened(address, part.stat().st_size if part.exists() else 0) as answer:
                _receive(answer, address, part)
            return
        except urllib.error.HTTPError as failure:
            with failure:
                if failure.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and attempt < ATTEMPTS:
                    part.unlink(missing_ok=True)
                    continue
                raise _refusal(address, _status(failure.code, failure.reason)) from failure
        except urllib.error.URLError as failure:
            raise _refusal(address, f"cannot be reached: {_reason(failure.reason)}") from failure
        except (OSError, http.client.HTTPException) as failure:
            if attempt == ATTEMPTS:
                raise _refusal(address, f"breaks off: {_reason(failure)}; submit again to go on there") from failure


def _opened(address: ModelAddress, offset: int) -> Any:
    request = urllib.request.Request(address.url)  # noqa: S310  # its scheme is https, by `model_address`
    if address.password or address.user:
        pair = f"{unquote(address.user)}:{unquote(address.password)}".encode()
        # Not for whoever the server sends us on to.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    opener = urllib.request.build_opener(_HttpsAlone)
    return opener.open(request, timeout=SILENCE_S)


def _receive(answer: http.client.HTTPResponse, address: ModelAddress, part: Path) -> None:
    goes_on = _RANGE.match(answer.headers.get("Content-Range", "")) if answer.status == 206 else None
    offset = int(goes_on[1]) if goes_on else 0
    with part.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        file.truncate()
        for block in _blocks(answer):
            file.write(block)
            if file.tell() > SIZE_LIMIT_BYTES:
                part.unlink()
                raise _refusal(address, f"is larger than {SIZE_LIMIT_BYTES / 2**30:g} GiB")


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it comes. Raises IncompleteRead when it ends before it should."""
    left = answer.length
    while block := answer.read1(_BLOCK_BYTES):
        left = left - len(block) if left is not None else None
        yield block
    if left:
        raise http.client.IncompleteRead(b"", left)


class _HttpsAlone(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https addresses, three at most."""

    max_redirections = _REDIRECTS
    max_repeats = _REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            message = "it sends on to an address that is not https"
            raise urllib.error.HTTPError(req.full_url, code, message, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _status(code: int, reason: str) -> str:
    if code in {401, 403}:
        return f"asks for a login ({code}): https://USER:PASSWORD@HOST/…, or fetch the file yourself and give its path"
    if code in {404, 410}:
        return f"is not there ({code})"
    return f"cannot be fetched: {reason.splitlines()[0] if reason else 'no reason given'} ({code})"


def _reason(failure: object) -> str:
    return " ".join(str(getattr(failure, "strerror", None) or failure).split())


def _refusal(address: ModelAddress, words: str) -> FoglineError:
    return FoglineError(ErrorKind.UNREACHABLE, f"{address.url} {words}")
