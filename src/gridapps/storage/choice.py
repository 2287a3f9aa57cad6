"""The storage of an instance, chosen by its location."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from gridapps.storage.directory import DirectoryStorage
from gridapps.storage.interface import Storage


@dataclass(frozen=True, kw_only=True)
class Location:
    """A directory or an S3 bucket."""

    url: str  # a path, or s3://BUCKET/PREFIX
    endpoint: str  # URL of the S3 service; empty for Amazon's
    region: str


class _Configuration:
    located: Callable[[], Location] | None = None


def configure(located: Callable[[], Location]) -> None:
    """Set what returns the location of the instance's storage. Called once, when a process starts."""
    _Configuration.located = located


def current() -> Storage:
    """The instance's storage, for exports and outputs."""
    assert _Configuration.located is not None, "configure() has not been called"
    return open_storage(_Configuration.located())


@cache
def open_storage(location: Location) -> Storage:
    """The storage at a location: one object per process, because it holds connections."""
    if not location.url.startswith("s3://"):
        return DirectoryStorage(Path(location.url))
    from gridapps.storage.s3 import S3Storage  # boto3 takes a third of a second and 30 MB

    parts = urlsplit(location.url)
    return S3Storage(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=location.endpoint,
        region=location.region,
    )
