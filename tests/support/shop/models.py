"""Articles, which tell of themselves, and tags."""

import uuid
from typing import Any

from django.contrib.auth.models import User
from django.db import models

from thorn_stream.django import ModelEvent, model_reverser, webhook_model

__all__ = ["Article", "Tag"]


@webhook_model
class Article(models.Model):  # type: ignore[misc]  # Django has no types
    uuid = models.UUIDField(default=uuid.uuid4)
    title = models.CharField(max_length=100)
    state = models.CharField(max_length=20, default="DRAFT")
    author = models.ForeignKey(User, on_delete=models.CASCADE, null=True)
    tags = models.ManyToManyField("shop.Tag", related_name="articles", blank=True)

    class webhooks:  # noqa: N801 - Thorn's name
        on_create = ModelEvent("article.created")
        on_change = ModelEvent("article.changed")
        on_delete = ModelEvent("article.removed")
        on_publish = ModelEvent(
            "article.published.{.title}", state__now_eq="PUBLISHED"
        ).dispatches_on_change()
        on_tag = ModelEvent("article.tagged").dispatches_on_m2m_add("tags")
        on_untag = ModelEvent("article.untagged").dispatches_on_m2m_remove("tags")
        on_clear = ModelEvent("article.cleared").dispatches_on_m2m_clear("tags")
        on_custom = ModelEvent("article.custom")
        reverse = model_reverser("article", uuid="uuid")
        sender_field = "author"

        def payload(self, article: "Article") -> dict[str, Any]:
            return {"title": article.title, "state": article.state}

        def headers(self, article: "Article") -> dict[str, str]:
            return {"X-Title": article.title}

        def delivers(self, article: "Article", event: ModelEvent) -> bool:
            return bool(article.title != "secret")

    def __str__(self) -> str:
        return str(self.title)


class Tag(models.Model):  # type: ignore[misc]  # Django has no types
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return str(self.name)
