"""The first page, and the application settings."""

from django.conf import settings as configuration
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from gridapps.access import applications, operations, permissions
from gridapps.access import queries as access
from gridapps.exports import queries as exports
from gridapps.pushes import quota
from gridapps.registry import certificates
from gridapps.registry import queries as registry
from gridapps.runs import queries as runs
from gridapps.web.forms import ApplicationForm, CertificateForm, DeveloperForm, user_of
from gridapps.web.paged_lists import paged


@require_GET
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """The user's runs, Apps and exports, each with pages of its own. Administrators see all Apps."""
    user = user_of(request)
    apps = paged(request, "apps", registry.visible_to(user).order_by("app_id"))
    grants = registry.grants(user, apps.rows)
    runnable = set(registry.runnable_by(user).values_list("pk", flat=True))
    return render(
        request,
        "home.html",
        {
            "runs": paged(request, "runs", runs.owned_by(user).order_by("-created_at", "-id")),
            "apps": apps,
            "cards": [(app, grants.get(app.pk, app), app.pk in runnable) for app in apps.rows],
            "exports": paged(request, "exports", exports.visible_to(user).order_by("-pk")),
            "is_developer": permissions.is_developer(user),
        },
    )


@require_GET
@login_required
def settings(request: HttpRequest) -> HttpResponse:
    """Developer status, client certificates, OAuth applications."""
    return show_settings(request)


@require_POST
@login_required
def request_developer(request: HttpRequest) -> HttpResponse:
    """Ask to become a developer."""
    form = DeveloperForm(request.POST)
    if not form.is_valid():
        return show_settings(request, developer_form=form)
    operations.request_developer(user=user_of(request), statement=form.cleaned_data["statement"])
    messages.success(request, "An administrator will review your request.")
    return redirect("settings")


def show_settings(request: HttpRequest, **forms: object) -> HttpResponse:
    """The settings page. `forms` replace empty forms by those that had errors."""
    user = user_of(request)
    return render(
        request,
        "settings.html",
        {
            "developer": access.developer_of(user),
            "certificates": certificates.held_by(user),
            "images_used": quota.used(user),
            "images_limit": configuration.GRIDAPPS.max_registry,
            "applications": applications.registered_by(user),
            "developer_form": DeveloperForm(),
            "certificate_form": CertificateForm(),
            "application_form": ApplicationForm(),
            **forms,
        },
        status=400 if forms else 200,
    )
