"""The storage that an operator's settings name."""

from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from gridapps.storage.directory import DirectoryStorage
from gridapps.storage.protocol import Storage


@cache
def open_storage(location: str, *, endpoint: str, region: str) -> Storage:
    """The storage at a path, or at `s3://BUCKET/PREFIX`. One for each process: it holds connections."""
    if not location.startswith("s3://"):
        return DirectoryStorage(Path(location))
    from gridapps.storage.s3 import S3Storage  # its library takes a third of a second and 30 MB

    parts = urlsplit(location)
    return S3Storage(bucket=parts.netloc, prefix=parts.path.strip("/"), endpoint=endpoint, region=region)
