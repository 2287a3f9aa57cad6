"""A storage in a bucket of an S3-compatible service.

The service gives what the protocol asks for: an object is seen whole or not at all, and is there for
everybody once `put` has returned. Payloads are signed, so that it refuses what was altered on the way.
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

from gridapps.storage.interface import Entry, Missing, Readable, StorageUnavailable

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

logger = logging.getLogger(__name__)

MIB = 1024**2
_PIECE = MIB
_PART = 8 * MIB  # of a large object; larger for objects that would have too many
_MOST_PARTS = 9000  # the service takes 10,000
_AT_ONCE = 4  # parts of one object
_CONNECTIONS = 64
_RESUMED = 5  # times in a row that a stream which broke off is taken up again
_NOT_THERE = frozenset({"404", "NoSuchKey"})
_BEYOND = frozenset({"416", "InvalidRange"})


class S3Storage:
    """Objects `PREFIX/KEY` of a bucket. Credentials come from where every AWS tool looks for them."""

    def __init__(self, *, bucket: str, prefix: str, endpoint: str, region: str) -> None:
        """`endpoint`: URL of the service, empty for Amazon's own."""
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
                # Services beside Amazon's know neither bucket names in host names nor the newer checksums.
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
        with self._told(key):
            if size <= _PART:
                self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=_all(source, size))
                return
            config = TransferConfig(
                multipart_threshold=_PART,
                multipart_chunksize=max(_PART, -(-size // _MOST_PARTS)),
                max_concurrency=_AT_ONCE,
            )
            config.max_in_memory_upload_chunks = _AT_ONCE
            one_way = cast(IO[bytes], _OneWay(source))  # no more than `read` is asked of it
            self._client.upload_fileobj(one_way, self._bucket, self._name(key), Config=config)

    def read(self, key: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            return iter(())
        body = self._open(key, start, stop)
        return self._pieces(key, body, start, stop) if body is not None else iter(())

    def size(self, key: str) -> int:
        with self._told(key):
            return self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]

    def entries(self, prefix: str) -> Iterator[Entry]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._name(prefix)
        )
        with self._told(prefix):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Entry(
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
            with self._told(key):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            if errors := answer.get("Errors"):
                raise StorageUnavailable(f"The S3 storage does not remove: {errors[0].get('Code')}.")

    def _name(self, key: str) -> str:
        return self._prefix + key

    def _open(self, key: str, start: int, stop: int | None) -> StreamingBody | None:
        """The stream from `start`; None when the object ends there or before."""
        wanted = f"bytes={start}-" + ("" if stop is None else str(stop - 1))
        try:
            with self._told(key):
                if start == 0 and stop is None:  # an empty object has no range
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
                    return  # noqa: TRY300 - the loop goes on after an error only
                except (BotoCoreError, ConnectionFault, OSError) as error:
                    broken += 1
                    if broken > _RESUMED:
                        raise StorageUnavailable(
                            f"The S3 storage breaks off ({type(error).__name__})."
                        ) from None
            stream = self._open(key, start, stop)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Translate botocore errors to Missing or StorageUnavailable.

        A refusal is of the second kind: it is the operator's to mend, and no fault of a run.
        """
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _NOT_THERE:
                raise Missing(key) from None
            if code in _BEYOND:
                raise _Beyond from None
            logger.warning("s3://%s/%s: %s", self._bucket, self._name(key), error)
            raise StorageUnavailable(f"The S3 storage refuses ({code}).") from None
        except BotoCoreError as error:
            logger.warning("s3://%s/%s: %s", self._bucket, self._name(key), error)
            raise StorageUnavailable(f"The S3 storage does not answer ({type(error).__name__}).") from None


class _Beyond(Exception):
    """A range that begins where the object ends."""


class _OneWay:
    """Hides that a file can be sought in: parts are read in order, once, as they are sent."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        return self._source.read(size)


def _all(source: Readable, size: int) -> bytes:
    """Everything that a small source reads; what it has beyond `size` is its own fault to find."""
    found = bytearray()
    while piece := source.read(max(size - len(found), 1)):
        found += piece
    return bytes(found)
