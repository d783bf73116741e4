"""`thorn-stream subscribers list`, `status`."""

from typing import Annotated

import typer

from thorn_stream.cli.common import (
    ConfigOption,
    JsonOption,
    client,
    load,
    print_json,
    say,
    warn,
)

__all__ = ["commands"]

commands = typer.Typer(help="Look at subscribers.", rich_markup_mode=None)


@commands.command("list", epilog="Example: thorn-stream subscribers list --json")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List who may be called, from the settings and from files. Secrets are not shown."""
    from thorn_stream.ops import roster
    from thorn_stream.ops.match import read_directory

    loaded = load(config)
    directory = read_directory(loaded)
    warn(loaded)
    if as_json:
        print_json(roster.rows(directory))
    else:
        say("\n".join(roster.table(directory)))


@commands.command(epilog="Example: thorn-stream subscribers status billing")
def status(
    subscriber: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only of this one.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what waits for each subscriber: how much, since when, and its last error.

    It is read from Kafka, so it is the same on every machine; no group is joined. What is in
    flight or queued is in the /metrics of each dispatcher. Without --config, a `thorn-stream
    broker` that runs in this directory is asked.
    """
    from thorn_stream.ops import status as ops
    from thorn_stream.ops.match import read_directory

    loaded = load(config)
    directory = read_directory(loaded)
    warn(loaded)
    found = ops.status(loaded.settings, client(loaded, config), directory, subscriber)
    if as_json:
        print_json(ops.as_json(found))
    else:
        say("\n".join(ops.table(found)))
