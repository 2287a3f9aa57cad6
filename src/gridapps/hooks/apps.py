from django.apps import AppConfig


class HooksConfig(AppConfig):
    name = "gridapps.hooks"
    label = "hooks"
