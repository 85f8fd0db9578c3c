"""The node's certificate, which makes its endpoints https, and whom this node trusts when it calls another.

The node's operator lays three files into one folder: `certificate.pem`, with the chain behind it; `key.pem`, which its
owner alone may read; and `ca.pem`, the authority of the other nodes, where it is not one that the system trusts.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from fogline.runtimes.logs import log
from fogline.runtimes.spec import TLS_FILES, TLS_VARIABLE, ServingSpec, SpecError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CERTIFICATE, _KEY, _AUTHORITY = TLS_FILES
_OF_ANOTHER = {62, 64}
"""OpenSSL's numbers for a name and for an address that the certificate is not for."""
_TURNS = 4
"""Of each side until a handshake in memory is over."""


class Certificate:
    """What a served segment shows its callers. `renew` belongs to the loop's thread."""

    def __init__(self, name: str) -> None:
        """`name`: what callers reach this node by. Raises SpecError when the files cannot be used at all."""
        self._name = name
        self._seen = _stamps()
        self.context = _loaded()
        if flaw := _flaw(self.context, name):  # callers will say the same; ending here would help none of them
            log.warning("%s", flaw)

    def renew(self) -> None:
        """Take over what has changed in the files, for new connections; what cannot be used is told and left."""
        stamps = _stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            if flaw := _flaw(_loaded(), self._name):
                raise SpecError(flaw)
            self.context.load_cert_chain(*_pair())
        except (SpecError, OSError) as error:
            log.warning("the certificate that was renewed is not used: %s", error)
        else:
            log.info("the certificate was renewed")


def check(serving: ServingSpec) -> None:
    """That callers will take the certificate, and that the next segment's can be judged.

    Raises SpecError with the file and what to do about it.
    """
    if serving.tls_name and (flaw := _flaw(_loaded(), serving.tls_name)):
        raise SpecError(flaw)
    if serving.forward.startswith("https:"):
        trusting()


def trusting() -> ssl.SSLContext:
    """For the calling side: `ca.pem` where there is one, else whom the system trusts. Raises SpecError."""
    authority = _folder() / _AUTHORITY
    try:
        return ssl.create_default_context(cafile=authority if authority.exists() else None)
    except (OSError, ValueError) as error:
        raise SpecError(f"the authority {authority} cannot be used: {error}") from None


def _loaded() -> ssl.SSLContext:
    """Raises SpecError."""
    certificate, key = _pair()
    try:
        certificate.stat()
        mode = key.stat().st_mode
    except FileNotFoundError as error:
        known = "this node had a certificate when the pipeline was submitted"
        sentence = f"there is no {error.filename}, and {known}: put it there, or restart the agent and submit again"
        raise SpecError(sentence) from None
    except OSError as error:
        raise SpecError(f"{error.filename} cannot be read: {error.strerror}") from None
    if mode & _OTHERS:
        raise SpecError(f"the key {key} is open to others: chmod 600 {key}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        if reason == "KEY_VALUES_MISMATCH":
            reason = "the key is not the certificate's"
        raise SpecError(f"{certificate} and {key} cannot be used: {reason}") from None
    return context


def _flaw(own: ssl.SSLContext, name: str) -> str:
    """What callers would find wrong with the certificate who trust it; empty: nothing. Raises SpecError."""
    path, _ = _pair()
    caller_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller_context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    caller_context.load_verify_locations(path)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = caller_context.wrap_bio(back, there, server_hostname=name)
    server = own.wrap_bio(there, back, server_side=True)
    try:
        for end in (caller, server) * _TURNS:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        hint = "renew it"
        if error.verify_code in _OF_ANOTHER:
            hint = "have it issued for that, or start the agent with --address, the name it is for"
        return f"the certificate {path} cannot be used: {error.verify_message.rstrip('.')}: {hint}"
    except ssl.SSLError as error:
        return f"the certificate {path} cannot be used: {error.reason}"
    return ""


def _pair() -> tuple[Path, Path]:
    return _folder() / _CERTIFICATE, _folder() / _KEY


def _folder() -> Path:
    folder = os.environ.get(TLS_VARIABLE, "")
    if not folder:
        raise SpecError(f"the certificate of this node cannot be looked up: no folder in {TLS_VARIABLE}")
    return Path(folder)


def _stamps() -> tuple[tuple[int, int, int], ...]:
    """They change when a file is replaced or written anew."""
    found = []
    for path in _pair():
        try:
            told = path.stat()
        except OSError:
            continue
        found.append((told.st_ino, told.st_size, told.st_mtime_ns))
    return tuple(found)


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is here to be asked for its password")
