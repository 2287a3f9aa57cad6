from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "gridapps.registry"
    label = "registry"
