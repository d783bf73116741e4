"""Webhooks for Django's models: add `thorn_stream.django` to INSTALLED_APPS.

Settings are those of `config/thorn.yaml` under their Thorn names (`THORN_KAFKA`, `THORN_TOPICS`,
...); the environment beats them.
"""

from thorn_stream.events import Event, ModelEvent, Q, buffer_events, model_reverser, webhook_model

__all__ = ["Event", "ModelEvent", "Q", "buffer_events", "model_reverser", "webhook_model"]
