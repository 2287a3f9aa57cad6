from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "gridapps.access"
    label = "access"
