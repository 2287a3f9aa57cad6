"""Answers of an instance as frozen dataclasses, with the fields of docs/api.md. Times are in UTC."""

from gridapps_client.models.accounts import (
    Certificate,
    Delivery,
    Developer,
    Hook,
    IssuedCertificate,
    Me,
)
from gridapps_client.models.apps import (
    App,
    AppCounts,
    Attachment,
    Release,
    ReleaseCounts,
    Resources,
    Share,
    Tally,
)
from gridapps_client.models.exports import (
    Export,
    ExportFile,
    Upload,
    UploadedFile,
)
from gridapps_client.models.runs import (
    Attempt,
    LeftOut,
    LeftOutFiles,
    Line,
    Output,
    Run,
    RunTask,
    Submitted,
    WaitingFor,
)

__all__ = [
    "App",
    "AppCounts",
    "Attachment",
    "Attempt",
    "Certificate",
    "Delivery",
    "Developer",
    "Export",
    "ExportFile",
    "Hook",
    "IssuedCertificate",
    "LeftOut",
    "LeftOutFiles",
    "Line",
    "Me",
    "Output",
    "Release",
    "ReleaseCounts",
    "Resources",
    "Run",
    "RunTask",
    "Share",
    "Submitted",
    "Tally",
    "Upload",
    "UploadedFile",
    "WaitingFor",
]
