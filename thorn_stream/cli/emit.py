"""`thorn-stream emit`."""

from pathlib import Path
from typing import Annotated

import typer

from thorn_stream.cli.common import ConfigOption, client, load, patience, progress, say, warn

__all__ = ["emit"]


def emit(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The event's name.")] = None,
    data: Annotated[str | None, typer.Option(metavar="JSON", help="The event's data.")] = None,
    ref: Annotated[str | None, typer.Option(help="URL of what the event is about.")] = None,
    sender: Annotated[str | None, typer.Option(help="Primary key of the event's user.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of the record; none by default.")] = None,
    topic: Annotated[str | None, typer.Option(help="Instead of the first input topic.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A record header; may be repeated.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="F.jsonl", help="Envelopes, one per line, instead.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Publish one event, or a file of them, and wait until Kafka has it.

    Without --config, a `thorn-stream broker` that runs in this directory is written to.
    """
    from thorn_stream.ops import publish as ops

    headers = ops.parse_headers(header or ())
    events = ops.events(name, data, ref, sender, file)
    loaded = load(config)
    warn(loaded)
    into = ops.input_topic(loaded.settings, topic)
    text = key.encode() if key is not None else None
    settings = client(loaded, config)
    with patience(settings["bootstrap.servers"]) as heard:

        def on_progress(count: int) -> None:
            if count:
                heard()
            progress(f"{count} sent ")

        records = (ops.Event(text, value, headers) for value in events)
        sent = ops.publish(settings, into, records, on_progress)
    progress("\r")
    say(f"sent {sent} event{'' if sent == 1 else 's'} to {into}")
