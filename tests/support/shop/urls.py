"""An article's page, and the admin."""

from typing import Any

from django.contrib import admin
from django.http import HttpResponse
from django.urls import path


def article(request: Any, uuid: str) -> Any:
    return HttpResponse(uuid)


urlpatterns = [
    path("articles/<uuid>/", article, name="article"),
    path("admin/", admin.site.urls),
]
