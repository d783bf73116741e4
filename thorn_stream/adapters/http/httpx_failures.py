"""Errors of httpx, httpcore and a transport of the user's own, in the words of an Outcome."""

import re
from typing import Final

import httpcore
import httpx

from thorn_stream.adapters.http.failures import DialFailedError, Failure, failure_of
from thorn_stream.adapters.http.httpx_backend import AnswerRefusedError, Exchange, origin_of
from thorn_stream.core.deliveries import Kind

__all__ = ["failure_of_exchange"]

_PROTOCOL: Final = (  # what h11 says of an answer it cannot read
    (re.compile("Receive buffer too long"), "head too long"),
    (re.compile("status_code"), "not a status"),
    (re.compile("without a pending proposal"), "switches protocols unasked"),
)
_PROXY: Final = re.compile(r"[1-5][0-9][0-9]\b")


def failure_of_exchange(exchange: Exchange, error: Exception) -> Failure:
    """What an Attempt came to that has not got a status."""
    if isinstance(error, DialFailedError):
        exchange.address = error.address or exchange.address
        return error.kind, error.detail
    if isinstance(error, AnswerRefusedError):
        return Kind.PROTOCOL, str(error)
    if isinstance(
        error, httpx.TimeoutException | httpcore.TimeoutException
    ):  # a limit of the user's own transport
        return Kind.TIMEOUT, exchange.phase
    if isinstance(error, httpx.ProxyError | httpcore.ProxyError):
        status = _PROXY.match(str(error))
        return Kind.CONNECT, f"proxy answered {status[0]}" if status else "proxy failed"
    if isinstance(error, httpx.ProtocolError | httpcore.ProtocolError):
        return _protocol(exchange, str(error))
    if isinstance(error, httpx.NetworkError | httpcore.NetworkError | OSError):
        return failure_of(origin_of(error))
    return Kind.CONNECT, type(error).__name__


def _protocol(exchange: Exchange, text: str) -> Failure:
    stream = exchange.stream
    if text.startswith("Server disconnected"):
        if stream is None or stream.multiplexed or exchange.unanswered:
            return Kind.CONNECT, "closed"
        return Kind.PROTOCOL, "head cut short"
    if stream is not None and stream.multiplexed:
        return Kind.PROTOCOL, "not HTTP/2"
    for pattern, detail in _PROTOCOL:
        if pattern.search(text):
            return Kind.PROTOCOL, detail
    return Kind.PROTOCOL, "not HTTP/1.1"
