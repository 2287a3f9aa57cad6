"""Exports and their files, and uploads that become exports."""

import uuid

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Q

from gridapps.exports.upload_states import UPLOAD_ENDS, UploadState

_ENDED = Q(state__in=sorted(UPLOAD_ENDS))


class Export(models.Model):
    """One or more export files that belong to a user."""

    owner = models.ForeignKey(get_user_model(), on_delete=models.PROTECT, related_name="exports")
    name = models.CharField(max_length=200)
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    uploaded = models.BooleanField(
        default=False,
        db_default=False,
        help_text="its owner uploaded it, and it counts for the owner's quota",
    )
    deleted_at = models.DateTimeField(
        null=True, blank=True, help_text="the row stays, because runs refer to it; its files are removed"
    )

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return self.name


class ExportFile(models.Model):
    """A point-cloud file of an export. Coordinates are in the file's own CRS and units."""

    export = models.ForeignKey(Export, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255, help_text="file name as the user knows it")
    path = models.CharField(max_length=400, help_text="relative to the data directory's exports/")
    size = models.BigIntegerField(help_text="bytes")
    linked_mtime_ns = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="modification time of a file that is shared with its owner by a hard link; "
        "empty for a copy of the instance's own",
    )
    sha256 = models.CharField(max_length=64)
    points = models.BigIntegerField()
    las_version = models.CharField(max_length=3)
    point_format = models.SmallIntegerField()
    bounds = models.JSONField(help_text="[minx, miny, minz, maxx, maxy, maxz]")
    crs = models.TextField(blank=True, help_text="WKT 2, or empty when the file names none")
    crs_name = models.CharField(max_length=200, blank=True)
    crs_code = models.CharField(
        max_length=60, blank=True, db_default="", help_text="such as EPSG:25832 or EPSG:25832+7837"
    )
    footprint = models.BinaryField(help_text="WKB polygon in the file's CRS")
    geojson = models.JSONField(
        null=True,
        blank=True,
        help_text="the footprint in WGS 84; empty if the position is not known",
    )
    returns = models.JSONField(null=True, blank=True, help_text="number of points by return number, 1 to 15")
    gps_time = models.JSONField(null=True, blank=True, help_text="least and greatest GPS time of the points")
    remarks = models.JSONField(
        null=True, blank=True, help_text="sentences on faults that do not keep the file from being used"
    )

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(name="exportfile_name_once_per_export", fields=["export", "name"]),
            models.CheckConstraint(name="exportfile_has_points", condition=Q(points__gt=0)),
        ]

    def __str__(self) -> str:
        return self.name


class ExportUpload(models.Model):
    """Files that a user sends. Once all have arrived and were checked, they become an export."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(get_user_model(), on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=200, help_text="of the export")
    skip_bad = models.BooleanField(help_text="files that are refused are left out of the export")
    state = models.CharField(
        max_length=9,
        choices=[(each.value, each.value) for each in UploadState],
        default=UploadState.RECEIVING,
    )
    reason = models.TextField(blank=True, help_text="why it was refused")
    export = models.ForeignKey(Export, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    active_at = models.DateTimeField(help_text="when data arrived, to a minute; on the database's clock")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index(name="upload_by_owner", fields=["owner", "-created_at", "-id"]),
            models.Index(name="upload_open", fields=["state"], condition=~_ENDED),
        ]
        constraints = [
            models.CheckConstraint(
                name="upload_ended_exactly_when_terminal",
                condition=(_ENDED & Q(ended_at__isnull=False)) | (~_ENDED & Q(ended_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="upload_ready_exactly_with_export",
                condition=Q(state="ready", export__isnull=False)
                | (~Q(state="ready") & Q(export__isnull=True)),
            ),
            models.CheckConstraint(
                name="upload_refused_has_reason", condition=~Q(state="refused") | ~Q(reason="")
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class UploadFile(models.Model):
    """A file of an upload, as the user announced it, and what the check found."""

    upload = models.ForeignKey(ExportUpload, on_delete=models.CASCADE, related_name="files")
    index = models.PositiveIntegerField()
    name = models.CharField(max_length=255)
    size = models.BigIntegerField(help_text="bytes, as announced")
    sha256 = models.CharField(max_length=64, blank=True, help_text="as announced, if it was")
    received = models.BooleanField(default=False)
    tries = models.PositiveSmallIntegerField(default=0, help_text="how often the check was begun")
    taken = models.JSONField(null=True, help_text="where the file is stored, and its facts, until the export")
    reason = models.TextField(blank=True, help_text="why it was refused")

    class Meta:
        ordering = ("upload", "index")
        constraints = [
            models.UniqueConstraint(name="uploadfile_index_once_per_upload", fields=["upload", "index"]),
            models.UniqueConstraint(name="uploadfile_name_once_per_upload", fields=["upload", "name"]),
            models.CheckConstraint(name="uploadfile_has_bytes", condition=Q(size__gt=0)),
        ]

    def __str__(self) -> str:
        return self.name


class Measurement(models.Model):
    """The facts of a content, kept for a week, so that a repeated import reads no points twice."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    version = models.SmallIntegerField(help_text="of what is measured")
    facts = models.JSONField()
    measured_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256
