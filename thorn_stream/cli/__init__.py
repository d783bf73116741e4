"""The command line: options in, one call of `ops`, text out. No logic of its own."""

from thorn_stream.cli.program import main

__all__ = ["main"]
