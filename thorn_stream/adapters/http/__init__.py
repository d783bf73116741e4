"""The delivery transport: HTTP/1.1 on asyncio, small enough to read, guarded at every connect.

targets      a Subscriber's URL, prepared once: origin, TLS context, the head of the request
dialling     the only way to the network: look up, check every answer, dial the checked address
connection   one connection: writes a request, reads its answer within limits
transport    the pool around them: reuse, bounds, deadlines, stop
failures     foreign errors, in the words of an Outcome
"""

from thorn_stream.adapters.http.transport import NativeTransport

__all__ = ["NativeTransport"]
