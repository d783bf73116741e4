"""`thorn-stream demo`."""

from typing import Annotated

import typer

from thorn_stream.cli.common import JsonOption

__all__ = ["demo"]


def demo(
    events: Annotated[int, typer.Option(min=1, metavar="N", help="How many are sent.")] = 2000,
    rate: Annotated[float, typer.Option(min=1, metavar="N", help="Events per second.")] = 200,
    kafka: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Run on this broker, in topics of its own that are deleted at the end; the "
            "embedded one if not given.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Watch events go from Kafka to five receivers, of which four misbehave.

    A broker, a dispatcher process and the receivers are started here and end with it. The summary
    accounts for every event; the exit status is 1 when it does not add up.
    """
    from thorn_stream.ops.demo.course import Options, run

    return run(Options(events, rate, kafka, json))
