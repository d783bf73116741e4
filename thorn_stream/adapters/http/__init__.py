"""The delivery transport: HTTP/1.1 on asyncio, small enough to read, guarded at every connect.

targets      a Subscriber's URL, prepared once: origin, TLS context, the head of the request
dialling     the only way to the network: look up, check every answer, dial the checked address
connection   one connection: writes a request, reads its answer within limits
transport    the pool around them: reuse, bounds, deadlines, stop
failures     foreign errors, in the words of an Outcome

The same port over httpx, sharing targets, failures and the rules of dialling:

httpx_transport   a request is a task: its deadline, its one replay, how its answer is read
httpx_requests    a Subscriber's URL and an Attempt, as httpx's objects
httpx_backend     httpcore's connections, opened to checked addresses, bounded in what they read
httpx_pools       a pool for each origin: reuse, room for others, age
httpx_failures    errors of httpx, in the words of an Outcome
httpx_ways        proxy, HTTP/2 and a transport of the user's own, out of the settings

It is imported by its own name, so that httpx is loaded only where it is used.
"""

from thorn_stream.adapters.http.transport import NativeTransport

__all__ = ["NativeTransport"]
