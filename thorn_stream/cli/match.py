"""`thorn-stream match`."""

from typing import Annotated

import typer

from thorn_stream.cli.common import ConfigOption, JsonOption, load, print_json, say, warn

__all__ = ["match"]


def match(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name.")],
    data: Annotated[str, typer.Option(metavar="JSON", help="The event's data.")] = "{}",
    sender: Annotated[str | None, typer.Option(help="Primary key of the event's user.")] = None,
    ref: Annotated[str | None, typer.Option(help="URL of what the event is about.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which subscribers get an event, and which do not and why."""
    from thorn_stream.ops import match as ops
    from thorn_stream.ops.publish import envelope, parse_json

    value = envelope(name, parse_json(data, "--data"), ref, sender)
    loaded = load(config)
    found = ops.match(ops.read_directory(loaded), value)
    warn(loaded)
    if as_json:
        print_json(found)
    else:
        say(ops.table(found))
