"""The typed client: a method for each call of docs/api.md, which pages through lists, and waits for runs."""

from __future__ import annotations

import hashlib
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gridapps_client import downloads, following, naming
from gridapps_client.address import app_segment, quoted, segment
from gridapps_client.calls import BASE, Calls, one
from gridapps_client.configuration import Configuration
from gridapps_client.decoding import decode, member
from gridapps_client.errors import NotFound
from gridapps_client.login import Renewal
from gridapps_client.models import (
    App,
    AppCounts,
    Certificate,
    Delivery,
    Developer,
    Export,
    Hook,
    IssuedCertificate,
    LeftOutFiles,
    Line,
    Me,
    Output,
    Release,
    Run,
    Share,
    Submitted,
    Upload,
)
from gridapps_client.streams import lines, log_lines
from gridapps_client.transport import Transport

T = TypeVar("T")


class Client:
    """An instance, as one user sees it. Every method raises a GridAppsError with a sentence when it fails.

    `ca`: file with the certificate authority to trust instead of the system's. `timeout` in seconds. `renew`
    is called once when the token is refused, and returns a new one or None.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout: float = 30.0,
        renew: Callable[[], str | None] | None = None,
    ) -> None:
        self.transport = Transport(url, token=token, ca=ca, timeout=timeout, renew=renew)
        self._calls = Calls(self.transport)

    @classmethod
    def configured(cls, url: str | None = None) -> Client:
        """The client of an instance known from `gridapps login` or from GRIDAPPS_URL and GRIDAPPS_TOKEN."""
        configuration = Configuration()
        instance = configuration.instance(url)
        return cls(instance.url, token=instance.token, ca=instance.ca, renew=Renewal(configuration, instance))

    @property
    def url(self) -> str:
        """`https://host[:port]`."""
        return self.transport.url

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def me(self) -> Me:
        """The user whom the token belongs to."""
        return decode(Me, member(self._calls.json("GET", "/me"), "user"), where="user")

    def developer(self) -> Developer:
        """The state of your request to become a developer."""
        answer = self._calls.json("GET", "/developer")
        return decode(Developer, member(answer, "developer"), where="developer")

    def request_developer(self, *, statement: str) -> Developer:
        """Ask to become a developer; an administrator decides."""
        answer = self._calls.json("POST", "/developer", body={"statement": statement})
        return decode(Developer, member(answer, "developer"), where="developer")

    def certificates(self) -> Iterator[Certificate]:
        """Your client certificates."""
        return self._calls.pages(Certificate, "/developer/certificates", "certificates")

    def create_certificate(self, *, name: str, csr: str | None = None) -> IssuedCertificate:
        """A new client certificate for the key of `csr` (PEM). Without one, the instance makes a key and
        returns it only this once.
        """
        body = {"name": name} if csr is None else {"name": name, "csr": csr}
        return decode(IssuedCertificate, self._calls.json("POST", "/developer/certificates", body=body))

    def revoke_certificate(self, serial: str) -> None:
        """Revoke a certificate at once. Revoking it again changes nothing."""
        self._calls.json("DELETE", f"/developer/certificates/{segment(serial)}")

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

    def hooks(self) -> Iterator[Hook]:
        """Your hooks, including those of single runs."""
        return self._calls.pages(Hook, "/hooks", "hooks")

    def create_hook(self, *, target: str, events: Sequence[str]) -> tuple[Hook, str]:
        """Have events POSTed to a URL. Returns the hook and its signing secret, which is shown only once."""
        answer = self._calls.json("POST", "/hooks", body={"target": target, "event": ",".join(events)})
        return one(Hook, answer, "hooks"), decode(str, member(answer, "secret"), where="secret")

    def delete_hook(self, pk: str) -> None:
        """Delete a hook and its pending deliveries."""
        self._calls.json("DELETE", f"/hooks/{segment(pk)}")

    def test_hook(self, pk: str) -> Delivery:
        """Have a test event delivered once, soon."""
        return one(Delivery, self._calls.json("POST", f"/hooks/{segment(pk)}/test"), "deliveries")

    def hook_deliveries(self, pk: str) -> Iterator[Delivery]:
        """The deliveries of a hook, newest first."""
        return self._calls.pages(Delivery, f"/hooks/{segment(pk)}/deliveries", "deliveries")

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

    def submit(
        self,
        app_id: str,
        *,
        export: str | None = None,
        exportfile: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        release: str | None = None,
        resources: Mapping[str, Any] | None = None,
        priority: int | None = None,
        key: uuid.UUID | None = None,
    ) -> Submitted:
        """Run an App on an export or on one file of it. `priority`: -10 to 10, among your own runs.

        The request carries `key` (by default a new one). It is repeated with the same key when the network
        fails, so it makes one run however often it is sent.
        """
        body: dict[str, Any] = {"arguments": dict(arguments or {})}
        given = {
            "export": export,
            "exportfile": exportfile,
            "release": release,
            "resources": resources,
            "priority": priority,
        }
        body |= {name: value for name, value in given.items() if value is not None}
        answer = self._calls.json(
            "PUT", f"/apps/{app_segment(app_id)}/runs/{segment(key or uuid.uuid4())}", body=body
        )
        return one(Submitted, answer, "runs")

    def runs(
        self,
        *,
        state: str | None = None,
        app: str | None = None,
        shown: bool = False,
        prefix: str | None = None,
    ) -> Iterator[Run]:
        """Your runs, newest first; `shown`: runs of your Apps that their owners show you; `prefix`: those
        whose ids begin with these digits.
        """
        given = {"state": state, "app": app, "shown": "true" if shown else None, "prefix": prefix}
        params = {name: value for name, value in given.items() if value}
        return self._calls.pages(Run, "/runs", "runs", params)

    def find_run(self, name: str) -> str:
        """The id of the run that `name` means: an id, its first 4 or more digits, or `last`.

        Raises NotFound if there is none, and GridAppsError if several begin with these digits.
        """
        return naming.find_run(self, name)

    def run(self, run_id: str) -> Run:
        """One run with its tasks."""
        return one(Run, self._calls.json("GET", f"/runs/{segment(run_id)}"), "runs")

    def cancel(self, run_id: str) -> Run:
        """Cancel a run. It becomes CANCELED once its containers have gone. Conflict if it has ended."""
        return one(Run, self._calls.json("POST", f"/runs/{segment(run_id)}/cancel"), "runs")

    def retry(self, run_id: str) -> Submitted:
        """A new run of the tasks that failed or were canceled. Conflict if there are none."""
        return one(Submitted, self._calls.json("POST", f"/runs/{segment(run_id)}/retry"), "runs")

    def show_to_developer(self, run_id: str) -> Run:
        """Let the developer of the App see this run, until `hide_from_developer`."""
        return one(Run, self._calls.json("PUT", f"/runs/{segment(run_id)}/developer"), "runs")

    def hide_from_developer(self, run_id: str) -> None:
        """Hide the run from the developer again. Hiding it twice changes nothing."""
        self._calls.json("DELETE", f"/runs/{segment(run_id)}/developer")

    def watch(self, run_id: str) -> Iterator[Run]:
        """The run as it is now, and after each change until it ends."""
        return following.watch(self.transport, run_id)

    def wait(self, run_id: str) -> Run:
        """The run, once it has ended."""
        for run in self.watch(run_id):
            last = run
        return last

    def log(self, run_id: str, *, task: int | None = None) -> Iterator[Line]:
        """The log written so far; `task`: only that task's."""
        params = {} if task is None else {"task": str(task)}
        with self.transport.stream("GET", f"{BASE}/runs/{segment(run_id)}/log", params=params) as answer:
            yield from log_lines(lines(self.transport.chunks(answer)))

    def follow_log(self, run_id: str, *, task: int | None = None) -> Iterator[Line]:
        """The log as it is written, until the run ends. Reconnects when the connection breaks."""
        return following.follow_log(self.transport, run_id, task=task)

    def outputs(self, run_id: str) -> Iterator[Output]:
        """The outputs of a run."""
        return self._calls.pages(Output, f"/runs/{segment(run_id)}/outputs", "outputs", {"limit": "1000"})

    def left_out(self, run_id: str) -> LeftOutFiles:
        """What the run's tasks left and could not be kept as outputs."""
        answer = self._calls.json("GET", f"/runs/{segment(run_id)}/outputs?limit=1")
        return decode(LeftOutFiles, answer, where="outputs")

    def delete_outputs(self, run_id: str) -> None:
        """Delete the outputs and the log of a run; the run itself stays. Deleting them again changes nothing.
        Conflict while the run is active.
        """
        self._calls.json("DELETE", f"/runs/{segment(run_id)}/outputs")

    def download(
        self,
        run_id: str,
        output: Output,
        *,
        to: str | Path,
        overwrite: bool = False,
        progressed: downloads.Progressed = downloads.nothing,
    ) -> Path:
        """Download one output into the directory `to` and return its file, below the task's index.

        The content is verified by its SHA-256. A file with the right content is not downloaded again; one
        with other content raises a GridAppsError unless `overwrite`. An interrupted download is resumed, also
        by a later call. `progressed` is called with the number of bytes of each piece.
        """
        return downloads.output(
            self.transport,
            output,
            url=lambda path: self.output_url(run_id, path),
            to=Path(to),
            overwrite=overwrite,
            progressed=progressed,
        )

    def download_zip(
        self, run_id: str, *, to: str | Path, progressed: downloads.Progressed = downloads.nothing
    ) -> Path:
        """Download all outputs as one zip into the file `to`, which must not exist, and return it.

        The checksums in the zip are verified. An interrupted download is resumed, also by a later call.
        """
        return downloads.archive(self.transport, self.zip_url(run_id), target=Path(to), progressed=progressed)

    def output_url(self, run_id: str, path: str) -> str:
        """The URL of an output, relative to the instance."""
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise NotFound(f"{path!r} is not the path of an output.", code="not-found")
        return f"{BASE}/runs/{segment(run_id)}/outputs/{quoted(path, safe='/')}"

    def zip_url(self, run_id: str) -> str:
        """The URL of a zip of all outputs, relative to the instance."""
        return f"{BASE}/runs/{segment(run_id)}/outputs.zip"


def _block(app_id: str, release: str | None) -> str:
    middle = f"/releases/{segment(release)}" if release else ""
    return f"/apps/{app_segment(app_id)}{middle}/block"
