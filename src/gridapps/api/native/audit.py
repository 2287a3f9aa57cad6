"""`/audit`: entries of the audit, for tools of administrators."""

from django.http import HttpRequest
from ninja import Query, Router

from gridapps.access.permissions import require_administrator
from gridapps.api.native.answers import reads
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.paging import After, Limit, page
from gridapps.api.native.shapes import AuditAnswer, AuditEntry, AuditFilter
from gridapps.audit import models, queries

router = Router(tags=["audit"], auth=with_scope("admin"))


@router.get("/audit", response=reads(ok=AuditAnswer), operation_id="list_audit", exclude_unset=True)
def index(
    request: HttpRequest, wanted: Query[AuditFilter], limit: Limit = 100, after: After = None
) -> AuditAnswer:
    """The entries of a period, oldest first; of an event, an actor or a subject. Only for administrators."""
    require_administrator(user_of(request))
    rows = queries.entries(since=wanted.since, until=wanted.until).filter(**wanted.names())
    found, following = page(request, rows, ("pk",), limit=limit, after=after)
    return AuditAnswer(entries=[_shown(entry) for entry in found], **following)


def _shown(entry: models.Entry) -> AuditEntry:
    return AuditEntry(
        id=str(entry.pk),
        at=entry.at,
        event=entry.event,
        actor=entry.actor,
        subject=entry.subject,
        details=entry.details,
        request=entry.request or None,
        address=entry.address,
    )
