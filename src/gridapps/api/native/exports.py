"""`/exports`: the exports on which a user may run Apps."""

import shapely
from django.http import HttpRequest
from ninja import Router, Status

from gridapps.access.models import User
from gridapps.api.native.answers import reads, writes
from gridapps.api.native.authentication import user_of, with_scope
from gridapps.api.native.declared import Pk, Pks
from gridapps.api.native.paging import After, Flag, Limit, page
from gridapps.api.native.parsing import not_found, pks, primary_key
from gridapps.api.native.shapes import Export, ExportChanges, ExportFile, ExportsAnswer
from gridapps.exports import models, naming, queries
from gridapps.runs import export_deletion

router = Router(tags=["exports"], auth=with_scope("exports", "exports:write"))


@router.get("/exports", response=reads(ok=ExportsAnswer), operation_id="list_exports", exclude_unset=True)
def index(request: HttpRequest, limit: Limit = 100, after: After = None) -> ExportsAnswer:
    """Your exports, newest first."""
    rows = queries.visible_to(user_of(request))
    found, following = page(request, rows, ("-pk",), limit=limit, after=after)
    return ExportsAnswer(exports=[_shown(export) for export in found], **following)


@router.get(
    "/exports/{pk}", response=reads(404, ok=ExportsAnswer), operation_id="show_exports", exclude_unset=True
)
def show(request: HttpRequest, pk: Pks) -> ExportsAnswer:
    """One export, or several with their keys separated by commas."""
    wanted = pks(pk)
    found = queries.visible_to(user_of(request)).in_bulk(wanted)
    if len(found) < len(wanted):
        raise not_found()
    return ExportsAnswer(exports=[_shown(found[key]) for key in wanted])


@router.patch(
    "/exports/{pk}",
    response=writes(404, body=True, status_200=ExportsAnswer),
    operation_id="rename_export",
    exclude_unset=True,
)
def rename(request: HttpRequest, pk: Pk, body: ExportChanges) -> ExportsAnswer:
    """Give your own export another name. Runs keep referring to it."""
    user = user_of(request)
    export = naming.rename(by=user, export=_own(user, pk), name=body.name)
    return ExportsAnswer(exports=[_shown(export)])


@router.delete(
    "/exports/{pk}", response=writes(404, 409, body=False, status_204=None), operation_id="delete_export"
)
def delete(request: HttpRequest, pk: Pk, stop: Flag = False) -> Status[None]:
    """Delete your own export and its files. Runs and their outputs stay. This cannot be undone.

    Refused while runs on it have not ended; with `stop` they are canceled.
    """
    user = user_of(request)
    export_deletion.delete_export(by=user, export=_own(user, pk), stop=stop)
    return Status(204, None)


def _own(user: User, pk: str) -> models.Export:
    found = queries.visible_to(user).filter(pk=primary_key(pk)).first()
    if found is None:
        raise not_found()
    return found


def _shown(export: models.Export) -> Export:
    return Export(
        pk=str(export.pk),
        name=export.name,
        user=export.owner.username,
        created_at=export.created_at,
        notes=export.notes,
        exportfiles=[
            ExportFile(
                pk=str(file.pk),
                name=file.name,
                filesize=file.size,
                sha256=file.sha256,
                points=file.points,
                las_version=file.las_version,
                point_format=file.point_format,
                bounds=file.bounds,
                crs=file.crs,
                crs_name=file.crs_name,
                crs_code=file.crs_code,
                geom=shapely.from_wkb(bytes(file.footprint)).wkt,
                geojson=file.geojson,
                returns=file.returns,
                gps_time=file.gps_time,
                remarks=file.remarks or [],
            )
            for file in export.files.all()
        ],
    )
