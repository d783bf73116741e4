"""`manage.py write TITLE`: an article, published at once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from articles.models import Article


class Command(BaseCommand):
    """Both changes are one transaction: their events go out when it is committed."""

    help = "Write an article and publish it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("title")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            article = Article.objects.create(title=options["title"])
            article.state = "PUBLISHED"
            article.save()
        self.stdout.write("sent article.created, article.changed and article.published")
