"""Transports of a user's own, named by reference in tests of the settings."""

import httpx

__all__ = ["NOT_ONE", "READY", "Recording", "breaks", "make"]


class Recording(httpx.AsyncBaseTransport):
    """Answers by the first part of the path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        match request.url.path.strip("/").split("/"):
            case ["fails"]:
                raise httpx.ConnectError("no way there")
            case ["late"]:
                raise httpx.ReadTimeout("too late")
            case ["breaks"]:
                raise KeyError("secret")
            case ["nothing"]:
                return None  # type: ignore[return-value]  # what a careless one does
            case ["status", status]:
                return httpx.Response(int(status), headers={"Retry-After": "9"})
        return httpx.Response(200, content=b"ok")

    async def aclose(self) -> None:
        self.closed = True


def make() -> Recording:
    return Recording()


def breaks() -> Recording:
    raise RuntimeError("not today")


READY = Recording()
NOT_ONE = 5
