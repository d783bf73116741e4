"""What thorn_stream says about itself in lines: set up once, secrets kept out, floods bounded."""

from thorn_stream.adapters.logs.lines import LogObserver
from thorn_stream.adapters.logs.masking import masked, scrubbed
from thorn_stream.adapters.logs.setup import set_up, summary

__all__ = ["LogObserver", "masked", "scrubbed", "set_up", "summary"]
