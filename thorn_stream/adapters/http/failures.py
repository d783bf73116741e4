"""Errors of sockets, TLS and the resolver, in the words of an Outcome."""

import errno
import socket
import ssl
from typing import Final, TypeAlias

from thorn_stream.core.deliveries import Kind

__all__ = ["DialFailedError", "Failure", "failure_of"]

Failure: TypeAlias = tuple[Kind, str]

_CONNECT: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNABORTED: "closed",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "no local address or port left",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
}

_CERTIFICATE: Final = {  # X509_V_ERR_*
    9: "certificate not yet valid",
    10: "certificate expired",
    18: "self-signed certificate",
    19: "self-signed certificate in chain",
    20: "unknown authority",
    21: "unknown authority",
    23: "certificate revoked",
    62: "wrong host name",
    64: "wrong address",
}

_DNS: Final = {
    socket.EAI_NONAME: "not found",
    getattr(socket, "EAI_NODATA", socket.EAI_NONAME): "not found",  # not on every system
    socket.EAI_AGAIN: "no answer",
}


class DialFailedError(Exception):
    """Why there is no connection; never leaves this package."""

    def __init__(self, kind: Kind, detail: str, address: str | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.address = address


def failure_of(error: BaseException | None) -> Failure:
    """Translate; None means that the other side closed."""
    if error is None or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Kind.CONNECT, "closed"
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _CERTIFICATE.get(error.verify_code)
        return Kind.TLS, known or error.verify_message[:80]
    if isinstance(error, ssl.SSLError):
        return Kind.TLS, (error.reason or "failed").lower().replace("_", " ")[:80]
    if isinstance(error, socket.gaierror):
        return Kind.DNS, _DNS.get(error.errno or 0, "failed")
    if isinstance(error, TimeoutError):
        return Kind.CONNECT, "timed out"
    if isinstance(error, OSError):
        number = error.errno or 0
        if not number and isinstance(error, ConnectionError):
            return Kind.CONNECT, "closed"
        return Kind.CONNECT, _CONNECT.get(number) or errno.errorcode.get(number, "failed").lower()
    return Kind.CONNECT, type(error).__name__
