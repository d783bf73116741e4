"""A program that is told what its receivers answered."""

import threading

from thorn_stream import Request, Thorn

thorn = Thorn()  # its group is to be the dispatcher's: their results are read

article_created = thorn.Event("article.created", timeout=5)


def main() -> None:
    """Publish one event, and wait until a receiver has taken it."""
    taken = threading.Event()

    def on_success(request: Request) -> None:
        print(f"{request.subscriber.id} answered {request.status} to attempt {request.attempt}")
        taken.set()

    def on_failure(request: Request, error: Exception) -> None:
        print(f"{request.subscriber.id} failed: {error}; the dispatcher tries again")

    with thorn:
        article_created.send(
            {"title": "Told"},
            on_success=on_success,
            on_error=on_failure,
            on_timeout=on_failure,
        )
        if not taken.wait(60):
            print("no receiver has taken it within a minute")


if __name__ == "__main__":
    main()
