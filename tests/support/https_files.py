"""Files over https on the loopback, from a server that can ask for a login, send on, and break off."""

from __future__ import annotations

import base64
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.certificates import Certificates


class FileServer(ThreadingHTTPServer):
    """What is below `folder`, at `url`."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.server_cert, certificates.server_key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.folder = folder
        self.host = f"localhost:{self.server_address[1]}"
        self.url = f"https://{self.host}"
        self.login = ""
        """`USER:PASSWORD` that is asked for."""
        self.moved: dict[str, str] = {}
        """Beginning of a path -> address that takes its place."""
        self.breaks_after: list[int] = []
        """Bytes after which the next answers break off."""
        self.ranges = True
        """Whether it can begin in the middle."""
        self.logins: list[str] = []
        """What was shown with every request; empty: nothing."""
        self.asked: list[tuple[str, str]] = []
        """Path and Range of every request that got a file."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves, as one does that trusts nobody here, is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.logins.append(self.headers.get("Authorization", ""))
        login = "Basic " + base64.b64encode(self.server.login.encode()).decode()
        for begin, target in self.server.moved.items():
            if path.startswith(begin):
                return self._only(302, "Location", target + self.path.removeprefix(begin))
        if self.server.login and self.headers.get("Authorization") != login:
            return self._only(401, "WWW-Authenticate", 'Basic realm="plant"')
        file = self.server.folder / path.lstrip("/")
        if not file.is_file():
            return self._only(404, "Connection", "close")
        self.server.asked.append((path, self.headers.get("Range", "")))
        return self._file(file.read_bytes())

    def _file(self, content: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if self.server.ranges else None
        start = int(wanted[1]) if wanted else 0
        if wanted and start >= len(content):
            return self._only(416, "Content-Range", f"bytes */{len(content)}")
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = start + self.server.breaks_after.pop(0) if self.server.breaks_after else len(content)
        self.wfile.write(content[start:end])
        self.close_connection = True
        return None

    def _only(self, code: int, key: str, value: str) -> None:
        self.send_response(code)
        self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def serving(folder: Path, certificates: Certificates) -> Iterator[FileServer]:
    """A server, gone afterwards."""
    with FileServer(folder, certificates) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
