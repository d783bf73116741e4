"""`thorn-stream topics plan`, `create`."""

from typing import Annotated

import typer

from thorn_stream.cli.common import (
    ConfigOption,
    JsonOption,
    client,
    load,
    patience,
    print_json,
    say,
    warn,
)

__all__ = ["commands"]

commands = typer.Typer(help="Plan and create the topics of a group.", rich_markup_mode=None)

PartitionsOption = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Of input topics that are missing; else the broker's default."
    ),
]


@commands.command(epilog="Example: thorn-stream topics plan --config config/thorn.yaml")
def plan(
    acl: Annotated[
        bool, typer.Option("--acl", help="Print who may do what, as kafka-acls.sh commands.")
    ] = False,
    partitions: PartitionsOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the topics there are with those that are needed; say what differs and what to do.

    Without --config, a `thorn-stream broker` that runs in this directory is asked. --acl asks no
    broker.
    """
    loaded = load(config)
    if acl:
        from thorn_stream.ops import acl as rules

        if as_json:
            print_json(rules.as_json(rules.rules(loaded.settings)))
        else:
            say(rules.script(loaded.settings))
        return
    from thorn_stream.ops import provision

    warn(loaded)
    settings = client(loaded, config)
    with patience(settings["bootstrap.servers"]):
        found = provision.survey(loaded.settings, settings, partitions)
    if as_json:
        print_json(found.as_json())
    else:
        say("\n".join(provision.lines(found)))


@commands.command(epilog="Example: thorn-stream topics create --partitions 12")
def create(
    partitions: PartitionsOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Create what is missing: input topics given by name, and the group's own.

    What exists stays as it is. Without --config, a `thorn-stream broker` that runs in this
    directory is asked.
    """
    from thorn_stream.ops import provision

    loaded = load(config)
    warn(loaded)
    settings = client(loaded, config)
    with patience(settings["bootstrap.servers"]):
        done = provision.create(loaded.settings, settings, partitions)
    if as_json:
        print_json(done.as_json())
    else:
        say("\n".join(provision.created_lines(done)))
