"""Parts of the OpenAPI document that the signatures of calls lack: path keys, headers, content types."""

from typing import Annotated, Any

from ninja import Path
from pydantic import WithJsonSchema

from gridapps.api.native.parsing import PK_PATTERN, PKS_PATTERN, UUID_PATTERN, UUIDS_PATTERN
from gridapps.registry.models import APP_ID


def _key(pattern: str, description: str) -> Any:
    # Described, not validated: an impossible key gets the response of an absent one, 404.
    return WithJsonSchema({"type": "string", "pattern": pattern, "description": description})


AppId = Annotated[str, Path(), _key(APP_ID, "app-id")]
RunId = Annotated[str, Path(), _key(f"^{UUID_PATTERN}$", "key of a run")]
RunIds = Annotated[str, Path(), _key(UUIDS_PATTERN, "key of a run, or several separated by commas")]
OutputPath = Annotated[str, Path(), _key("^[0-9]{1,9}/.+$", "index of the task, and the path below /grid")]
Serial = Annotated[str, Path(), _key("^[0-9a-f]{1,40}$", "serial number of a certificate")]
Pk = Annotated[str, Path(), _key(f"^{PK_PATTERN}$", "key")]
DigestKey = Annotated[str, Path(), _key("^sha256:[0-9a-f]{64}$", "digest of a release")]
AttachmentKey = Annotated[str, Path(), _key("^sha256:[0-9a-f]{64}$", "digest of an attachment")]
UploadId = Annotated[str, Path(), _key(f"^{UUID_PATTERN}$", "key of an upload")]
FileIndex = Annotated[str, Path(), _key("^[0-9]{1,4}$", "index of a file of the upload")]
Pks = Annotated[str, Path(), _key(PKS_PATTERN, "key, or several separated by commas")]


def etag(status: int) -> dict[str, Any]:
    """Declare the ETag header of a response."""
    header = {"description": "changes with every change", "required": True, "schema": {"type": "string"}}
    return {"responses": {status: {"headers": {"ETag": header}}}}


def if_match() -> dict[str, Any]:
    """Declare the If-Match header of a request."""
    return {"parameters": [_header("If-Match", "the last known ETag, or *")]}


def if_none_match() -> dict[str, Any]:
    """Declare the If-None-Match header of a request."""
    return {"parameters": [_header("If-None-Match", "the last known ETag")]}


def content(status: int, **types: Any) -> dict[str, Any]:
    """Declare a response that is not JSON."""
    return {"responses": {status: {"content": types}}}


def tus(status: int, *headers: str) -> dict[str, Any]:
    """Declare the headers of the protocol tus: of the request, and `headers` of the response."""
    return {
        "parameters": [
            _header("Tus-Resumable", "1.0.0"),
            _header("Upload-Offset", "where the part begins"),
            _header("Upload-Checksum", "sha1 or sha256, a space, and the digest in base64"),
        ],
        "responses": {
            status: {"headers": {name: {"required": True, "schema": {"type": "string"}} for name in headers}}
        },
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "in": "header", "name": name, "required": False, "description": description,
        "schema": {"type": "string"},
    }  # fmt: skip
