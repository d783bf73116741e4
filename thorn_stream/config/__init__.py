"""Settings: where they are read from, what they mean, what must hold between them."""

from thorn_stream.config.load import Loaded, load_settings
from thorn_stream.config.settings import Settings

__all__ = ["Loaded", "Settings", "load_settings"]
