"""The site of the administration: for administrators, who are superusers, and nobody else."""

from django.contrib.admin import AdminSite
from django.http import HttpRequest


class Administration(AdminSite):
    """Its first page leads to what administrators look at first."""

    site_header = site_title = "GRiD Apps administration"
    index_template = "administration/index.html"

    def has_permission(self, request: HttpRequest) -> bool:
        """Only administrators: permissions for a part of it would show runs of other users."""
        user = request.user
        return bool(user.is_active and user.is_staff and user.is_superuser)
