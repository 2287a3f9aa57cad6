from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "gridapps.access"
    label = "access"

    def ready(self) -> None:
        from gridapps.access import signals  # noqa: F401 - its receivers listen once it is imported
