"""The admin, and an article's page."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def detail(request: HttpRequest, uuid: str) -> HttpResponse:
    """An article."""
    return HttpResponse(f"article {uuid}")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("articles/", include(([path("<uuid>/", detail, name="detail")], "article"))),
]
