"""The URL of the metrics."""

from django.urls import path

from gridapps.api.metrics.views import show

urlpatterns = [path("metrics", show, name="metrics")]
