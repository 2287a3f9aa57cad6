"""A storage in a bucket of an S3-compatible service.

The service guarantees what the interface requires: an object is visible as a whole or not at all, and to
every client once `put` has returned. Payloads are signed, so the service rejects data that was altered on the
way.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.exceptions import HTTPClientError as ConnectionFault
from botocore.response import StreamingBody

from gridapps.storage.interface import Missing, Readable, StorageUnavailable, StoredObject

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

logger = logging.getLogger(__name__)

MIB = 1024**2
_PIECE = MIB
_PART = 8 * MIB  # of a large object; larger if there would be too many parts
_MOST_PARTS = 9000  # services accept 10,000
_AT_ONCE = 4  # parts of one object
_CONNECTIONS = 64
_RESUMED = 5  # attempts in a row to resume a broken stream
_MISSING = frozenset({"404", "NoSuchKey"})
_BEYOND = frozenset({"416", "InvalidRange"})


class S3Storage:
    """Objects `PREFIX/KEY` of a bucket. Credentials are found as by every AWS tool."""

    def __init__(self, *, bucket: str, prefix: str, endpoint: str, region: str) -> None:
        """`endpoint`: URL of the service; empty for Amazon's."""
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or None,
            region_name=region,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "max_attempts": 3},
                max_pool_connections=_CONNECTIONS,
                # Other services than Amazon's support neither bucket names in host names nor new checksums.
                s3={
                    "addressing_style": "path" if endpoint else "auto",
                    "payload_signing_enabled": True,
                },
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def local(self, _key: str) -> Path | None:
        return None

    def put(self, key: str, source: Readable, *, size: int) -> None:
        with self._translated(key):
            if size <= _PART:
                self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=_all(source, size))
                return
            config = TransferConfig(
                multipart_threshold=_PART,
                multipart_chunksize=max(_PART, -(-size // _MOST_PARTS)),
                max_concurrency=_AT_ONCE,
            )
            config.max_in_memory_upload_chunks = _AT_ONCE
            one_way = cast(IO[bytes], _OneWay(source))  # boto3 only calls `read`
            self._client.upload_fileobj(one_way, self._bucket, self._name(key), Config=config)

    def read(self, key: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            return iter(())
        body = self._open(key, start, stop)
        return self._pieces(key, body, start, stop) if body is not None else iter(())

    def size(self, key: str) -> int:
        with self._translated(key):
            return self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._name(prefix)
        )
        with self._translated(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield StoredObject(
                        key=found["Key"].removeprefix(self._prefix),
                        size=found["Size"],
                        modified=found["LastModified"],
                    )

    def remove(self, key: str) -> None:
        below = f"{key}/"
        doomed = [entry.key for entry in self.entries(key) if entry.key == key or entry.key.startswith(below)]
        for first in range(0, len(doomed), 1000):
            objects: list[ObjectIdentifierTypeDef] = [
                {"Key": self._name(each)} for each in doomed[first : first + 1000]
            ]
            with self._translated(key):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            if errors := answer.get("Errors"):
                raise StorageUnavailable(f"The S3 storage cannot remove objects ({errors[0].get('Code')}).")

    def _name(self, key: str) -> str:
        return self._prefix + key

    def _open(self, key: str, start: int, stop: int | None) -> StreamingBody | None:
        """The stream from `start`; None if the object is not longer than that."""
        wanted = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
        try:
            with self._translated(key):
                if start == 0 and stop is None:  # a range would fail for an empty object
                    return self._client.get_object(Bucket=self._bucket, Key=self._name(key))["Body"]
                return self._client.get_object(Bucket=self._bucket, Key=self._name(key), Range=wanted)["Body"]
        except _Beyond:
            return None

    def _pieces(self, key: str, body: StreamingBody, start: int, stop: int | None) -> Iterator[bytes]:
        broken = 0
        stream: StreamingBody | None = body
        while stream is not None:
            with closing(stream):
                try:
                    while piece := stream.read(_PIECE):
                        start, broken = start + len(piece), 0
                        yield piece
                    return  # noqa: TRY300 - only an error continues the loop
                except (BotoCoreError, ConnectionFault, OSError) as error:
                    broken += 1
                    if broken > _RESUMED:
                        raise StorageUnavailable(
                            f"The S3 storage breaks off transfers ({type(error).__name__})."
                        ) from None
            stream = self._open(key, start, stop)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Translate botocore errors to Missing or StorageUnavailable.

        A refusal is StorageUnavailable, because the operator can fix it and it is not the run's fault.
        """
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                raise Missing(key) from None
            if code in _BEYOND:
                raise _Beyond from None
            logger.warning("s3://%s/%s: %s", self._bucket, self._name(key), error)
            raise StorageUnavailable(f"The S3 storage refuses the request ({code}).") from None
        except BotoCoreError as error:
            logger.warning("s3://%s/%s: %s", self._bucket, self._name(key), error)
            raise StorageUnavailable(f"The S3 storage does not answer ({type(error).__name__}).") from None


class _Beyond(Exception):
    """The range begins at or beyond the end of the object."""


class _OneWay:
    """Hides `seek`, so that boto3 reads the parts once, in order, as it sends them."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._source.read(size)


def _all(source: Readable, size: int) -> bytes:
    """All bytes of a small source. The source itself detects if they are more than `size`."""
    found = bytearray()
    while piece := source.read(max(size - len(found), 1)):
        found += piece
    return bytes(found)
