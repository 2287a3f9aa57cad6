"""What stands before the developer registry. nginx lets the outside reach the token and the push only."""

from django.urls import path

from gridapps.api.registry import views

urlpatterns = [
    path("registry/token", views.token),
    path("registry/authorize", views.authorize),
    path("v2/<str:name>/manifests/<str:reference>", views.push_manifest),
]
