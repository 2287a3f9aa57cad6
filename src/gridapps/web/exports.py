"""The pages of a user's exports."""

from uuid import UUID

from django.conf import settings as configuration
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from gridapps.exports import naming, queries, receiving, upload_quota
from gridapps.exports.errors import InvalidExport
from gridapps.exports.models import Export
from gridapps.exports.upload_states import UploadState
from gridapps.runs import export_deletion
from gridapps.runs.errors import Conflict
from gridapps.web.forms import user_of

ON_A_PAGE = 100


@require_GET
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """All exports of the user, newest first, and uploads that are none yet."""
    user = user_of(request)
    rows = queries.visible_to(user).order_by("-pk")
    page = Paginator(rows, ON_A_PAGE).get_page(request.GET.get("page"))
    limit = configuration.GRIDAPPS.max_uploads
    return render(
        request,
        "exports.html",
        {
            "page": page,
            "longest_name": naming.MAX_NAME,
            "uploads": receiving.visible_to(user).exclude(state=UploadState.READY),
            "used": upload_quota.sized(upload_quota.used(user)),
            "limit": upload_quota.sized(limit) if limit else "",
        },
    )


@require_GET
@login_required
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """The files of an export, and remarks on them."""
    export = _own(request, pk)
    page = Paginator(export.files.order_by("pk"), ON_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "export.html", {"export": export, "page": page})


@require_POST
@login_required
def rename(request: HttpRequest, pk: int) -> HttpResponse:
    """Give the export another name."""
    export = _own(request, pk)
    try:
        naming.rename(by=user_of(request), export=export, name=request.POST.get("name", ""))
    except InvalidExport:
        messages.error(request, naming.RULE)
    return redirect("exports")


@require_POST
@login_required
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Delete the export. Runs on it are canceled if the form says so."""
    export = _own(request, pk)
    try:
        export_deletion.delete_export(by=user_of(request), export=export, stop="stop" in request.POST)
    except Conflict as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"The export {export.name} was deleted.")
    return redirect("exports")


@require_POST
@login_required
def delete_upload(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """Delete an upload and what has arrived of it."""
    user = user_of(request)
    upload = receiving.visible_to(user).filter(pk=upload_id).first()
    if upload is None:
        raise Http404
    receiving.abandon(by=user, upload=upload)
    return redirect("exports")


def _own(request: HttpRequest, pk: int) -> Export:
    found = queries.visible_to(user_of(request)).prefetch_related(None).filter(pk=min(pk, 2**63 - 1)).first()
    if found is None:
        raise Http404
    return found
