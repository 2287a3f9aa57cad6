from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "gridapps.audit"
    label = "audit"
