"""All the commands, and what becomes of an error."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

# Only names and options are imported here: a command imports the rooms it needs when it runs, so
# that `--help` and completion do not wait for Kafka's client, pydantic and the rest.
from thorn_stream.cli import config, dead, subscribers, topics
from thorn_stream.cli.broker import broker
from thorn_stream.cli.demo import demo
from thorn_stream.cli.emit import emit
from thorn_stream.cli.listen import listen
from thorn_stream.cli.match import match
from thorn_stream.cli.run import run
from thorn_stream.core.errors import ThornError
from thorn_stream.version import __version__

__all__ = ["execute", "main", "program"]

_INTERRUPTED = 130
_WRONG_USE = 2
# ClickException, whose module depends on the version of typer
_CommandLineError: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]

program = typer.Typer(
    name="thorn-stream",
    help="Kafka to webhooks: matched, signed, guarded, retried, accounted for.",
    epilog="Example: thorn-stream emit article.created --data '{\"id\": 1}'",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: quick, and the same in a pipe
)
program.command(epilog="Example: thorn-stream demo --events 500 --rate 100")(demo)
program.command(epilog="Example: thorn-stream run --config config/dev.yaml")(run)
program.command(epilog="Example: thorn-stream match article.created --data '{\"id\": 1}'")(match)
program.command(
    epilog="Example: thorn-stream emit article.created --data '{\"id\": 1}' --sender 42"
)(emit)
program.command(epilog="Example: thorn-stream listen --port 8000")(listen)
program.command(epilog="Example: thorn-stream broker")(broker)
program.add_typer(subscribers.commands, name="subscribers")
program.add_typer(dead.commands, name="dead")
program.add_typer(topics.commands, name="topics")
program.add_typer(config.commands, name="config")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"thorn-stream {__version__}")
        raise typer.Exit


@program.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command of this process and end it: 0 done, 1 it failed, 2 used wrongly."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: list[str]) -> int:
    """Run a command; returns its exit status."""
    try:
        status = _run(lambda: program(arguments, prog_name="thorn-stream", standalone_mode=False))
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        return 1
    return status


def _run(command: Callable[[], Any]) -> int:
    try:
        status = command()
    except ThornError as error:
        for line in str(error).splitlines():
            _complain(line)
        return error.exit_code
    except _CommandLineError as error:
        return _used_wrongly(error)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        text = " ".join(str(error).split())
        _complain(
            f"{type(error).__name__}: {text}: this is a bug of thorn_stream, please report it; "
            "`python -X dev -m thorn_stream ...` shows where it is"
        )
        return 1
    return status if isinstance(status, int) else 0


def _used_wrongly(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # the help, on standard error
        return _WRONG_USE
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "thorn-stream"
    text = " ".join(error.format_message().split()).rstrip(".")
    _complain(f"{text}: see `{path} --help`")
    return _WRONG_USE


def _complain(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        typer.echo(f"thorn-stream: {line}", err=True)


def _forget_stdout() -> None:
    """Nobody reads it any more: Python must not complain of that when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
