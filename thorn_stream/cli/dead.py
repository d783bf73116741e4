"""`thorn-stream dead list`, `show`."""

import time
from typing import Annotated

import typer

from thorn_stream.cli.common import (
    ConfigOption,
    JsonOption,
    client,
    load,
    note,
    patience,
    print_json,
    say,
    warn,
)

__all__ = ["commands"]

commands = typer.Typer(help="Look at dead letters.", rich_markup_mode=None)


@commands.command("list", epilog="Example: thorn-stream dead list --reason exhausted --since 1h")
def list_(
    reason: Annotated[str | None, typer.Option(help="Such as exhausted, gone, blocked.")] = None,
    event: Annotated[str | None, typer.Option(metavar="GLOB", help="Pattern of names.")] = None,
    subscriber: Annotated[str | None, typer.Option(metavar="ID", help="Of this one.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="T", help="30m, 1h, 2d ago, or an ISO 8601 time.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="At most so many, the newest.")
    ] = 1000,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest last.

    No group is joined and nothing is committed. Without --config, a `thorn-stream broker` that
    runs in this directory is asked.
    """
    from thorn_stream.ops import dead, dead_text

    asked = dead.wanted(
        reason=reason,
        event=event,
        subscriber=subscriber,
        since=(since, time.time_ns() // 1_000_000),
        limit=limit,
    )
    loaded = load(config)
    warn(loaded)
    settings = client(loaded, config)
    with patience(settings["bootstrap.servers"]) as heard:
        listing = dead.letters(loaded.settings, settings, asked, heard)
    if as_json:
        print_json(listing.rows)
    else:
        say("\n".join(dead_text.listed(listing)))
    if listing.left_out:
        note(f"the newest {limit} of {listing.found}: --limit shows more")


@commands.command(epilog="Example: thorn-stream dead show thorn.dead-0-17")
def show(
    letter: Annotated[
        str,
        typer.Argument(
            metavar="LETTER", help="TOPIC-PARTITION-OFFSET as `dead list` has it, or a delivery id."
        ),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: what became of it, its headers, its value.

    Of a delivery that died more than once, the newest. Without --config, a `thorn-stream broker`
    that runs in this directory is asked.
    """
    from thorn_stream.ops import dead, dead_text

    loaded = load(config)
    warn(loaded)
    settings = client(loaded, config)
    with patience(settings["bootstrap.servers"]):
        record = dead.find(loaded.settings, settings, letter)
    if as_json:
        print_json(dead_text.as_json(record))
    else:
        say("\n".join(dead_text.lines(record)))
