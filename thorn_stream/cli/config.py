"""`thorn-stream config check`, `show`, `schema`."""

from typing import Annotated

import typer

from thorn_stream.cli.common import ConfigOption, JsonOption, load, note, print_json, say, warn

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
) -> None:
    """Read settings and subscriber files; name every mistake with its place."""
    from thorn_stream.adapters.kafka import check_client
    from thorn_stream.app import refuse_what_is_not_there
    from thorn_stream.ops.match import never_called, read_directory

    loaded = load(config)
    directory = read_directory(loaded)
    refuse_what_is_not_there(loaded.settings, directory)
    check_client(loaded.settings.librdkafka())
    warn(loaded)
    for line in never_called(loaded.settings, directory):
        note(f"warning: {line}")
    source = loaded.path or "no file, defaults"
    count = len(directory)
    checked = None
    if connect:
        from thorn_stream.ops.connection import check as check_connection

        checked = check_connection(loaded.settings)
    say(f"ok: {source}, {count} subscriber{'' if count == 1 else 's'}")
    if checked is not None:
        for line in checked.warnings:
            note(f"warning: topic {line}")
        say(f"ok: {checked.line}")


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
