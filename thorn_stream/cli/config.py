"""`thorn-stream config check`, `show`, `schema`."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thorn_stream.cli.common import (
    ConfigOption,
    JsonOption,
    load,
    note,
    patience,
    print_json,
    say,
    warn,
)
from thorn_stream.ops.text import printable

if TYPE_CHECKING:
    from thorn_stream.config import Loaded
    from thorn_stream.core.directory import Directory
    from thorn_stream.ops.names import Names

__all__ = ["commands"]

commands = typer.Typer(help="Check, show and describe the settings.", rich_markup_mode=None)


@commands.command(epilog="Example: thorn-stream config check --config config/thorn.yaml --connect")
def check(
    config: ConfigOption = None,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect", help="Log in to Kafka as well, and name what it refuses; changes nothing."
        ),
    ] = False,
    resolve: Annotated[
        bool,
        typer.Option(
            "--resolve",
            help="Look up the names of receivers as well, and list those that lead to refused "
            "addresses today; status 1 when there are any. Calls nobody.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Read settings and subscriber files; name every mistake with its place."""
    from thorn_stream.ops.ceilings import cut
    from thorn_stream.ops.checking import examine, load_examined

    loaded = load_examined(config, os.environ)
    directory = examine(loaded)
    warn(loaded)
    warnings = cut(loaded.settings, directory)
    source = str(loaded.path or "no file, defaults")
    count = len(directory)
    told: dict[str, Any] = {"settings": source, "subscribers": count}
    lines = [f"ok: {source}, {count} subscriber{'' if count == 1 else 's'}"]
    if connect:
        from thorn_stream.ops.connection import check as check_connection

        with patience(str(loaded.settings.kafka["bootstrap.servers"])):
            checked = check_connection(loaded.settings)
        warnings += [f"topic {line}" for line in checked.warnings]
        lines.append(f"ok: {checked.line}")
        told["kafka"] = checked.line
    inward = False
    if resolve:
        names = _names(loaded, directory)
        inward = bool(names.inward)
        told["names"] = names.fields()
        warnings += [one.line for one in names.unknown]
        lines += [f"inward: {one.line}" for one in names.inward]
        lines += [] if inward else [f"ok: {_counted(names.looked_up)} looked up, none leads inward"]
    for line in warnings:
        note(f"warning: {printable(line)}")
    if as_json:
        print_json({**told, "warnings": [*loaded.warnings, *warnings]})
    else:
        for line in lines:
            say(printable(line))
    if inward:
        raise typer.Exit(1)


def _counted(names: int) -> str:
    return f"{names} name{'' if names == 1 else 's'}"


def _names(loaded: "Loaded", directory: "Directory") -> "Names":
    from thorn_stream.adapters.resolver import Resolver
    from thorn_stream.ops.guarding import guard_for
    from thorn_stream.ops.names import look_up_names

    return look_up_names(directory, guard_for(loaded.settings), Resolver())


@commands.command(epilog="Example: thorn-stream config show --json")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the settings in force, defaults included; secrets as `set`."""
    from thorn_stream.adapters.files import write_yaml
    from thorn_stream.config.show import in_force

    shown = in_force(load(config).settings)
    if as_json:
        print_json(shown)
    else:
        say(write_yaml(shown).rstrip())


@commands.command(epilog="Example: thorn-stream config schema > thorn.schema.json")
def schema() -> None:
    """Print a JSON Schema of the settings file, for editors."""
    from thorn_stream.config.show import schema as made

    print_json(made())
