from django.apps import AppConfig


class WebConfig(AppConfig):
    name = "gridapps.web"
    label = "web"
