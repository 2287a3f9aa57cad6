"""Calls about exports and uploads."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gridapps_client.address import segment
from gridapps_client.calls import BASE, one
from gridapps_client.connection import Connection
from gridapps_client.models import (
    Export,
    Upload,
)


class ExportCalls(Connection):
    """Calls about exports and uploads."""

    def exports(self) -> Iterator[Export]:
        """Your exports."""
        return self._calls.pages(Export, "/exports", "exports")

    def export(self, pk: str) -> Export:
        """One export."""
        return one(Export, self._calls.json("GET", f"/exports/{segment(pk)}"), "exports")

    def rename_export(self, pk: str, *, name: str) -> Export:
        """Give your own export another name."""
        return one(
            Export, self._calls.json("PATCH", f"/exports/{segment(pk)}", body={"name": name}), "exports"
        )

    def delete_export(self, pk: str, *, stop: bool = False) -> None:
        """Delete your own export. Runs that have ended keep their outputs. Conflict while runs on it have not
        ended; `stop` cancels them.
        """
        params = {"stop": "true"} if stop else {}
        self.transport.json("DELETE", f"{BASE}/exports/{segment(pk)}", params=params)

    def uploads(self) -> Iterator[Upload]:
        """Your uploads, newest first."""
        return self._calls.pages(Upload, "/uploads", "uploads")

    def show_upload(self, upload_id: str) -> Upload:
        """One upload, with what has arrived."""
        return one(Upload, self._calls.json("GET", f"/uploads/{segment(upload_id)}"), "uploads")

    def begin_upload(
        self, *, name: str, files: Sequence[Mapping[str, Any]], skip_bad: bool = False
    ) -> Upload:
        """Announce files: each has `name`, `size` in bytes, and optionally `sha256`. `uploading.upload` sends
        them.
        """
        body = {"name": name, "files": [dict(file) for file in files], "skip_bad": skip_bad}
        return one(Upload, self._calls.json("POST", "/uploads", body=body), "uploads")

    def send_part(self, upload_id: str, index: int, *, offset: int, content: bytes) -> None:
        """Send a part of a file, of at most 8 MiB, that begins at `offset`. Conflict if it belongs
        elsewhere.
        """
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Upload-Checksum": f"sha256 {b64encode(hashlib.sha256(content).digest()).decode()}",
            "Content-Type": "application/offset+octet-stream",
        }
        path = f"{BASE}/uploads/{segment(upload_id)}/files/{index}"
        with self.transport.stream("PATCH", path, content=content, headers=headers):
            pass

    def delete_upload(self, upload_id: str) -> None:
        """Delete an upload and what has arrived. An export that it became stays."""
        self._calls.json("DELETE", f"/uploads/{segment(upload_id)}")
