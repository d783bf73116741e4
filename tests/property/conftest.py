"""How many examples: a few hundred in `make test`, thousands with HYPOTHESIS_PROFILE=long."""

import os

from hypothesis import settings

# Tests never time anything: a deadline per example fails on a busy machine.
settings.register_profile("quick", deadline=None, max_examples=200)
settings.register_profile("long", deadline=None, max_examples=5_000, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
