"""Settings: where they are read from, what they mean, what must hold between them."""

from thorn_stream.config.load import Loaded, UnusableSettings, load_settings
from thorn_stream.config.settings import Settings

__all__ = ["Loaded", "Settings", "UnusableSettings", "load_settings"]
