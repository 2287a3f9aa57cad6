"""Steps of an upload, as the application and the importer do them."""

from collections.abc import Callable
from typing import Any

from gridapps.exports import receiving, upload_checks
from gridapps.exports.models import ExportUpload

Begin = Callable[..., ExportUpload]


def send(
    upload: ExportUpload, content: bytes, *, index: int = 0, offset: int = 0, checksum: Any = None
) -> int:
    """Send a part; how much of the file has arrived."""
    file = receiving.file_of(by=upload.owner, upload=upload.pk, index=index)
    return receiving.receive(file=file, offset=offset, content=content, checksum=checksum)


def check_everything() -> None:
    """What the importer does with what has arrived."""
    while (file := upload_checks.next_file(but=set())) is not None:
        upload_checks.check(file)
    upload_checks.finish()


def ended(upload: ExportUpload) -> ExportUpload:
    """The upload after its check."""
    check_everything()
    return ExportUpload.objects.get(pk=upload.pk)
