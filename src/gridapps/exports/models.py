"""Exports and their files."""

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Q


class Export(models.Model):
    """One or more export files that belong to a user."""

    owner = models.ForeignKey(get_user_model(), on_delete=models.PROTECT, related_name="exports")
    name = models.CharField(max_length=200)
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
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
    footprint = models.BinaryField(help_text="WKB polygon in the file's CRS")

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(name="exportfile_name_once_per_export", fields=["export", "name"]),
            models.CheckConstraint(name="exportfile_has_points", condition=Q(points__gt=0)),
        ]

    def __str__(self) -> str:
        return self.name
