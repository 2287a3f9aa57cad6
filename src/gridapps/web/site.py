"""The site of the administration, for administrators only, who are superusers."""

from django.contrib.admin import AdminSite
from django.http import HttpRequest

from gridapps.access.models import User
from gridapps.access.permissions import is_administrator


class Administration(AdminSite):
    """Its first page links to the most used lists."""

    site_header = site_title = "GRiD Apps administration"
    index_template = "administration/index.html"

    def has_permission(self, request: HttpRequest) -> bool:
        """Only administrators: partial permissions would show runs of other users."""
        return isinstance(request.user, User) and is_administrator(request.user)
