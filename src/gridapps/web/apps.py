from django.apps import AppConfig
from django.contrib.admin import apps


class WebConfig(AppConfig):
    name = "gridapps.web"
    label = "web"
    default = True


class AdministrationConfig(apps.AdminConfig):
    """Django's administration, on our site."""

    default = False
    default_site = "gridapps.web.site.Administration"
