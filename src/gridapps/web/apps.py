from django.apps import AppConfig
from django.contrib.admin import apps


class WebConfig(AppConfig):
    name = "gridapps.web"
    label = "web"
    default = True


class AdministrationConfig(apps.SimpleAdminConfig):
    """Django's administration, on our site. `config.urls` looks for the classes."""

    default = False
    default_site = "gridapps.web.site.Administration"
