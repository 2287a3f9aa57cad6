from django.apps import AppConfig


class ExportsConfig(AppConfig):
    name = "gridapps.exports"
    label = "exports"
