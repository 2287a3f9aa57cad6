"""URLs of the registries' gateway. From outside nginx lets only the token and the push through."""

from django.urls import path

from gridapps.api.registry import views

urlpatterns = [
    path("registry/token", views.token),
    path("registry/authorize", views.authorize),
    path("registry/broken-off", views.broken_off),
    path("v2/<str:name>/manifests/<str:reference>", views.push_manifest),
]
