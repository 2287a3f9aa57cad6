"""Every URL of the instance."""

from django.contrib import admin
from django.urls import include, path

admin.autodiscover()  # here, because commands have no use for it

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v3/", include("gridapps.api.native.urls")),
    path("", include("gridapps.api.metrics.urls")),
    path("", include("gridapps.api.registry.urls")),
    path("", include("gridapps.web.urls")),
]
