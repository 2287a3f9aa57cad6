"""Calls about Apps: their releases, counts, shares and blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gridapps_client.address import app_segment, segment
from gridapps_client.calls import one
from gridapps_client.connection import Connection
from gridapps_client.decoding import decode, member
from gridapps_client.models import (
    App,
    AppCounts,
    Release,
    Share,
)


class AppCalls(Connection):
    """Calls about Apps: their releases, counts, shares and blocks."""

    def apps(self, *, mine: bool = False) -> Iterator[App]:
        """The Apps that you may run or own; `mine`: only those you own."""
        return self._calls.pages(App, "/apps", "apps", {"mine": "true"} if mine else {})

    def app(self, app_id: str) -> App:
        """One App; NotFound also when it is not visible."""
        return one(App, self._calls.json("GET", f"/apps/{app_segment(app_id)}"), "apps")

    def create_app(self, **fields: Any) -> App:
        """A new App: `id`, `title`, and optionally `description`, `arguments` (JSON Schema), `resources`."""
        return one(App, self._calls.json("POST", "/apps", body=fields), "apps")

    def update_app(self, app_id: str, *, etag: str | None = None, **fields: Any) -> App:
        """Change `title`, `description`, `arguments` or `resources`. With `etag`, fail if it has changed
        since.
        """
        headers = {"If-Match": etag} if etag else {}
        return one(
            App,
            self._calls.json("PATCH", f"/apps/{app_segment(app_id)}", body=fields, headers=headers),
            "apps",
        )

    def delete_app(self, app_id: str) -> None:
        """Delete an App. Its id cannot be used again."""
        self._calls.json("DELETE", f"/apps/{app_segment(app_id)}")

    def releases(self, app_id: str) -> Iterator[Release]:
        """The images pushed for your own App."""
        return self._calls.pages(Release, f"/apps/{app_segment(app_id)}/releases", "releases")

    def counts(self, app_id: str) -> AppCounts:
        """How often an App ran, for its owner and administrators."""
        answer = self._calls.json("GET", f"/apps/{app_segment(app_id)}/counts")
        return decode(AppCounts, member(answer, "counts"), where="counts")

    def shares(self, app_id: str) -> Iterator[Share]:
        """The shares of an App, for its owner and administrators."""
        return self._calls.pages(Share, f"/apps/{app_segment(app_id)}/shares", "shares")

    def share(self, app_id: str, *, access_tag: str, release: str) -> Share:
        """Let the holders of an access tag run a release (digest or tag) once it has been copied."""
        body = {"access_tag": access_tag, "release": release}
        return one(
            Share, self._calls.json("POST", f"/apps/{app_segment(app_id)}/shares", body=body), "shares"
        )

    def revoke_share(self, app_id: str, pk: str) -> None:
        """Revoke a share. Revoking it again changes nothing."""
        self._calls.json("DELETE", f"/apps/{app_segment(app_id)}/shares/{segment(pk)}")

    def block(self, app_id: str, *, reason: str, release: str | None = None, stop: bool = False) -> None:
        """Block an App, or one release (a digest) of it; `stop`: stop its running tasks too."""
        body = {"reason": reason, "running": "stop" if stop else "finish"}
        self._calls.json("PUT", _block(app_id, release), body=body)

    def unblock(self, app_id: str, *, release: str | None = None) -> None:
        """Unblock an App or a release."""
        self._calls.json("DELETE", _block(app_id, release))


def _block(app_id: str, release: str | None) -> str:
    middle = f"/releases/{segment(release)}" if release else ""
    return f"/apps/{app_segment(app_id)}{middle}/block"
