from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "gridapps.runs"
    label = "runs"
