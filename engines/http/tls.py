"""TLS over a socket that is ours to read: what comes keeps the kernel's time of arrival."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
from pathlib import Path

from contracts.errors import UsageError

#: Where systems keep their CAs beside the place that Python was built for.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)
_PIECE = 65_536
#: OpenSSL's reasons for what is no TLS at all.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL")
_SELF_SIGNED, _EXPIRED, _UNKNOWN_CA = (18, 19), (9, 10), (2, 20, 21)  # X509_V_ERR_… of OpenSSL
_WRONG_HOST = (62, 64)


class TlsError(OSError):
    """No connection by TLS; the sentence says why."""


@functools.lru_cache(maxsize=1)
def context_of(ca: str | None) -> ssl.SSLContext:
    """Return a context that verifies names and certificates by the CAs of `ca` (a file, or
    OpenSSL's kind of folder), else of SSL_CERT_FILE, else of the system. Raises UsageError."""
    named = os.environ.get("SSL_CERT_FILE")
    if ca is None and named and not Path(named).is_file():
        raise UsageError(f"SSL_CERT_FILE names {named}, which is no file.")
    try:
        folder = ca is not None and Path(ca).is_dir()
        context = ssl.create_default_context(cafile=None if folder else ca,
                                             capath=ca if folder else None)  # fmt: skip
        if ca is None and not named and ssl.get_default_verify_paths().cafile is None:
            for bundle in filter(os.path.isfile, _BUNDLES):
                context.load_verify_locations(bundle)
    except OSError as error:  # ssl.SSLError is one
        why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"{f'--ca {ca}' if ca else named} cannot be used: {why}.") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class Tls:
    """One connection's TLS, to be fed with what comes, and telling what is to be sent."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self.closed = False

    async def shake_hands(self, sock: socket.socket) -> None:
        """Return when both sides know who they are. Raises OSError."""
        import asyncio  # nobody shakes hands so but the load generator

        loop = asyncio.get_running_loop()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, self._out.read())
                data = await loop.sock_recv(sock, _PIECE)
                if not data:
                    raise TlsError("it closes the connection instead of speaking TLS") from None
                self._in.write(data)
            except ssl.SSLError as error:
                with contextlib.suppress(OSError):  # the alert that says why
                    await loop.sock_sendall(sock, self._out.read())
                raise TlsError(tls_error_words(error)) from error
            else:
                return await loop.sock_sendall(sock, self._out.read())

    def encrypted(self, data: bytes) -> bytes:
        """Return what to send for it."""
        self._tls.write(data)
        return self._out.read()

    def decrypted(self, data: memoryview | bytes) -> bytes:
        """Return what of it, and of what came before, can be read; `closed` says that no more will
        come. Raises ssl.SSLError."""
        self._in.write(data)
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(_PIECE):
                pieces.append(piece)
            self.closed = True
        except ssl.SSLWantReadError:
            pass  # the rest of a record is to come
        except ssl.SSLZeroReturnError:
            self.closed = True
        return b"".join(pieces)

    def replies(self) -> bytes:
        """Return what TLS itself has to send, as for a change of keys; empty as a rule."""
        return self._out.read() if self._out.pending else b""


def tls_error_words(error: ssl.SSLError) -> str:
    """Return why there is no TLS with a server, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if error.reason in _NO_TLS:
        return "it does not speak TLS: is it http://?"
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return f"TLS fails ({reason})"


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    code, words = error.verify_code, error.verify_message
    if code in _EXPIRED:
        return f"{words}: its certificate is not valid now (is this machine's clock right?)"
    if code in _WRONG_HOST:
        return f"its certificate is another host's ({words.rstrip('.')}): give the name that it has"
    if code in _SELF_SIGNED or code in _UNKNOWN_CA:
        return f"its certificate is not trusted ({words}): give its CA's by --ca FILE"
    return f"its certificate is not valid ({words})"
