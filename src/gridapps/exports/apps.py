from django.apps import AppConfig
from django.conf import settings

from gridapps.storage.choice import Location, configure


class ExportsConfig(AppConfig):
    name = "gridapps.exports"
    label = "exports"

    def ready(self) -> None:
        configure(_location)


def _location() -> Location:
    return Location(
        url=str(settings.STORAGE or settings.DATA),
        endpoint=settings.GRIDAPPS.s3_endpoint,
        region=settings.GRIDAPPS.s3_region,
    )
