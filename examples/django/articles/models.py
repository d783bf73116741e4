"""An article, and the events it sends after each commit."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models

from thorn_stream.django import ModelEvent, model_reverser, webhook_model


@webhook_model
class Article(models.Model):
    """Saved in the admin or elsewhere, it tells."""

    uuid = models.UUIDField(default=uuid.uuid4, editable=False)
    title = models.CharField(max_length=128)
    state = models.CharField(max_length=16, default="DRAFT")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True
    )

    class webhooks:
        on_create = ModelEvent("article.created")
        on_change = ModelEvent("article.changed")
        on_delete = ModelEvent("article.removed")
        on_publish = ModelEvent(
            "article.published", state__now_eq="PUBLISHED"
        ).dispatches_on_change()
        reverse = model_reverser("article:detail", uuid="uuid")
        sender_field = "author"

        def payload(self, article: "Article") -> dict[str, Any]:
            return {"title": article.title, "state": article.state}

    def __str__(self) -> str:
        return self.title
