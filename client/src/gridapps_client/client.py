"""The typed client: one method for each call of docs/api.md, and what is better done here than by each
program.

That is: walking through pages, waiting for a run's end, following a log over broken connections.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from gridapps_client.address import segment
from gridapps_client.configuration import Configuration
from gridapps_client.decoding import decode, member
from gridapps_client.errors import BadAnswer, NotFound, Unreachable
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
    Line,
    Me,
    Output,
    Release,
    Run,
    Share,
    Submitted,
)
from gridapps_client.streams import Seen, events, lines, log_line, log_lines
from gridapps_client.transport import Transport

T = TypeVar("T")
BASE = "/api/v3"
_LONG_POLL = 50
_OUTAGE = 300.0


class Client:
    """An instance, as one user sees it. Every method raises a GridAppsError with a sentence when it fails.

    `ca`: file with the certificate authority to trust instead of the system's. `timeout` in seconds. `renew`
    is asked for a new token once when the present one is refused.
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

    @classmethod
    def configured(cls, url: str | None = None) -> Client:
        """The client of an instance that `gridapps login` knows, or that GRIDAPPS_URL and GRIDAPPS_TOKEN
        name.
        """
        configuration = Configuration()
        instance = configuration.instance(url)
        return cls(instance.url, token=instance.token, ca=instance.ca, renew=Renewal(configuration, instance))

    @property
    def url(self) -> str:
        """`https://host[:port]`."""
        return self.transport.url

    def close(self) -> None:
        """Give back the connections."""
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def me(self) -> Me:
        """Who the token belongs to."""
        return decode(Me, member(self._json("GET", "/me"), "user"), where="user")

    def developer(self) -> Developer:
        """How far one's wish to be a developer is."""
        return decode(Developer, member(self._json("GET", "/developer"), "developer"), where="developer")

    def request_developer(self, *, statement: str) -> Developer:
        """Ask to be a developer; an administrator decides."""
        answer = self._json("POST", "/developer", body={"statement": statement})
        return decode(Developer, member(answer, "developer"), where="developer")

    def certificates(self) -> Iterator[Certificate]:
        """One's client certificates."""
        return self._pages(Certificate, "/developer/certificates", "certificates")

    def create_certificate(self, *, name: str, csr: str | None = None) -> IssuedCertificate:
        """A new client certificate, for the key of `csr` (PEM), or for a key that the instance makes and
        shows once.
        """
        body = {"name": name} if csr is None else {"name": name, "csr": csr}
        return decode(IssuedCertificate, self._json("POST", "/developer/certificates", body=body))

    def revoke_certificate(self, serial: str) -> None:
        """Make a certificate worthless at once. Doing it again changes nothing."""
        self._json("DELETE", f"/developer/certificates/{segment(serial)}")

    def apps(self, *, mine: bool = False) -> Iterator[App]:
        """The Apps that one may run or owns; `mine`: only those one owns."""
        return self._pages(App, "/apps", "apps", {"mine": "true"} if mine else {})

    def app(self, app_id: str) -> App:
        """One App; NotFound also when it is not visible."""
        return self._one(App, self._json("GET", f"/apps/{segment(app_id)}"), "apps")

    def create_app(self, **fields: Any) -> App:
        """A new App: `id`, `title`, and as wished `description`, `arguments` (JSON Schema), `resources`."""
        return self._one(App, self._json("POST", "/apps", body=fields), "apps")

    def update_app(self, app_id: str, *, etag: str | None = None, **fields: Any) -> App:
        """Change `title`, `description`, `arguments` or `resources`; with `etag` only if nobody else did
        meanwhile.
        """
        headers = {"If-Match": etag} if etag else {}
        return self._one(
            App, self._json("PATCH", f"/apps/{segment(app_id)}", body=fields, headers=headers), "apps"
        )

    def delete_app(self, app_id: str) -> None:
        """Delete an App. Its id is never given out again."""
        self._json("DELETE", f"/apps/{segment(app_id)}")

    def releases(self, app_id: str) -> Iterator[Release]:
        """The images pushed for one's own App."""
        return self._pages(Release, f"/apps/{segment(app_id)}/releases", "releases")

    def counts(self, app_id: str) -> AppCounts:
        """How often an App ran, for its owner and administrators."""
        answer = self._json("GET", f"/apps/{segment(app_id)}/counts")
        return decode(AppCounts, member(answer, "counts"), where="counts")

    def shares(self, app_id: str) -> Iterator[Share]:
        """The shares of an App, for its owner and administrators."""
        return self._pages(Share, f"/apps/{segment(app_id)}/shares", "shares")

    def share(self, app_id: str, *, access_tag: str, release: str) -> Share:
        """Let the holders of an access tag run a release (digest or tag), once it is copied."""
        body = {"access_tag": access_tag, "release": release}
        return self._one(Share, self._json("POST", f"/apps/{segment(app_id)}/shares", body=body), "shares")

    def revoke_share(self, app_id: str, pk: str) -> None:
        """Take a share back. Doing it again changes nothing."""
        self._json("DELETE", f"/apps/{segment(app_id)}/shares/{segment(pk)}")

    def block(self, app_id: str, *, reason: str, release: str | None = None, stop: bool = False) -> None:
        """Keep an App, or one release (a digest) of it, from starting; `stop` what runs as well."""
        body = {"reason": reason, "running": "stop" if stop else "finish"}
        self._json("PUT", _block(app_id, release), body=body)

    def unblock(self, app_id: str, *, release: str | None = None) -> None:
        """Let it run again."""
        self._json("DELETE", _block(app_id, release))

    def hooks(self) -> Iterator[Hook]:
        """One's hooks, those of single runs as well."""
        return self._pages(Hook, "/hooks", "hooks")

    def create_hook(self, *, target: str, events: Sequence[str]) -> tuple[Hook, str]:
        """Have events POSTed to a URL. Returns the hook, and the secret of its signatures, told this once."""
        answer = self._json("POST", "/hooks", body={"target": target, "event": ",".join(events)})
        return self._one(Hook, answer, "hooks"), decode(str, member(answer, "secret"), where="secret")

    def delete_hook(self, pk: str) -> None:
        """Delete a hook. Nothing more is told."""
        self._json("DELETE", f"/hooks/{segment(pk)}")

    def test_hook(self, pk: str) -> Delivery:
        """Have a test event delivered, once and soon."""
        return self._one(Delivery, self._json("POST", f"/hooks/{segment(pk)}/test"), "deliveries")

    def hook_deliveries(self, pk: str) -> Iterator[Delivery]:
        """What became of a hook's deliveries, the newest first."""
        return self._pages(Delivery, f"/hooks/{segment(pk)}/deliveries", "deliveries")

    def exports(self) -> Iterator[Export]:
        """One's exports."""
        return self._pages(Export, "/exports", "exports")

    def export(self, pk: str) -> Export:
        """One export."""
        return self._one(Export, self._json("GET", f"/exports/{segment(pk)}"), "exports")

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
        """Run an App on an export or on one file of it. `priority`: -10 to 10, among one's own runs.

        The request goes under `key` (a new one by default) and is repeated under the same when the network
        fails, so it makes one run, however often it is sent.
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
        answer = self._json("PUT", f"/apps/{segment(app_id)}/runs/{key or uuid.uuid4()}", body=body)
        return self._one(Submitted, answer, "runs")

    def runs(self, *, state: str | None = None, app: str | None = None, shown: bool = False) -> Iterator[Run]:
        """One's runs, newest first; `shown`: those that others show one as the developer of an App."""
        given = {"state": state, "app": app, "shown": "true" if shown else None}
        return self._pages(Run, "/runs", "runs", {name: value for name, value in given.items() if value})

    def run(self, run_id: str) -> Run:
        """One run with its tasks."""
        return self._one(Run, self._json("GET", f"/runs/{segment(run_id)}"), "runs")

    def cancel(self, run_id: str) -> Run:
        """Stop a run. It is CANCELED only once its containers are gone. Conflict when it has ended."""
        return self._one(Run, self._json("POST", f"/runs/{segment(run_id)}/cancel"), "runs")

    def retry(self, run_id: str) -> Submitted:
        """A new run of the tasks that failed or were canceled. Conflict when there are none."""
        return self._one(Submitted, self._json("POST", f"/runs/{segment(run_id)}/retry"), "runs")

    def show_to_developer(self, run_id: str) -> Run:
        """Let the developer of the App see this one run, until it is taken back."""
        return self._one(Run, self._json("PUT", f"/runs/{segment(run_id)}/developer"), "runs")

    def hide_from_developer(self, run_id: str) -> None:
        """Take it back. Doing it again changes nothing."""
        self._json("DELETE", f"/runs/{segment(run_id)}/developer")

    def watch(self, run_id: str) -> Iterator[Run]:
        """The run now and after each change, up to and with its end.

        The instance may be away for up to five minutes meanwhile.
        """
        path, etag, patience = f"{BASE}/runs/{segment(run_id)}", "", _Patience()
        while True:
            wait = {"wait": str(_LONG_POLL)} if etag else {}
            try:
                answer, headers, status = self.transport.json(
                    "GET",
                    path,
                    params=wait,
                    headers={"If-None-Match": etag} if etag else {},
                    patience=_LONG_POLL,
                )
            except Unreachable:
                if not etag or not patience.pause():
                    raise
                continue
            patience.answered()
            if status == 304:
                continue
            etag = headers.get("ETag", "")
            run = self._one(Run, answer, "runs")
            if not etag:
                raise BadAnswer("The instance sent a run without an ETag.", code="bad-answer")
            yield run
            if run.ended:
                return

    def wait(self, run_id: str) -> Run:
        """The run, once it has ended."""
        for run in self.watch(run_id):
            last = run
        return last

    def log(self, run_id: str, *, task: int | None = None) -> Iterator[Line]:
        """The log as it is now; `task`: only that task's."""
        params = {} if task is None else {"task": str(task)}
        with self.transport.stream("GET", f"{BASE}/runs/{segment(run_id)}/log", params=params) as answer:
            yield from log_lines(lines(self.transport.chunks(answer)))

    def follow_log(self, run_id: str, *, task: int | None = None) -> Iterator[Line]:
        """The log up to the run's end, as it is written; goes on after a broken connection without repeating
        a line.
        """
        params = {"follow": "1"} | ({} if task is None else {"task": str(task)})
        path, seen, patience, connected = f"{BASE}/runs/{segment(run_id)}/log", Seen(), _Patience(), False
        while True:
            try:
                with self.transport.stream("GET", path, params=params, patience=_LONG_POLL) as answer:
                    connected = True
                    seen.restarted()
                    for event in events(lines(self.transport.chunks(answer))):
                        patience.answered()
                        if event.name == "end":
                            return
                        if event.name == "line" and seen.new(line := log_line(event)):
                            yield line
            except Unreachable:
                if not connected or not patience.pause():
                    raise
            else:
                # No end event: the instance is stopping.
                if not patience.pause():
                    raise Unreachable(
                        f"{self.url} cannot send the rest of the log; try again.", code="broken"
                    )

    def outputs(self, run_id: str) -> Iterator[Output]:
        """What the run left."""
        return self._pages(Output, f"/runs/{segment(run_id)}/outputs", "outputs")

    def delete_outputs(self, run_id: str) -> None:
        """Remove what the run left, and its log, for ever; the run itself stays. Doing it again changes
        nothing. Conflict while it is active."""
        self._json("DELETE", f"/runs/{segment(run_id)}/outputs")

    def output_url(self, run_id: str, path: str) -> str:
        """Where the bytes of an output are, relative to the instance."""
        if not path or any(part in ("", ".", "..") for part in path.split("/")):
            raise NotFound(f"{path!r} is no path of an output.", code="not-found")
        return f"{BASE}/runs/{segment(run_id)}/outputs/{quote(path, safe='/')}"

    def zip_url(self, run_id: str) -> str:
        """Where all outputs are as one zip, relative to the instance."""
        return f"{BASE}/runs/{segment(run_id)}/outputs.zip"

    def _json(
        self, method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        return self.transport.json(method, BASE + path, body=body, headers=headers)[0]

    def _one(self, kind: type[T], answer: object, name: str) -> T:
        found = member(answer, name)
        if not isinstance(found, list) or len(found) != 1:
            raise BadAnswer(f"The instance sent no single one of {name!r}.", code="bad-answer")
        return decode(kind, found[0], where=name)

    def _pages(
        self, kind: type[T], path: str, name: str, params: Mapping[str, str] | None = None
    ) -> Iterator[T]:
        where: str | None = BASE + path
        query = httpx.QueryParams(params or {})
        while where is not None:
            answer, _, _ = self.transport.json("GET", where, params=dict(query))
            page = member(answer, name)
            if not isinstance(page, list):
                raise BadAnswer(f"The instance sent {name!r} that are no list.", code="bad-answer")
            for each in page:
                yield decode(kind, each, where=name)
            following = answer.get("next")
            if following is None:
                return
            # Only the query is taken over: the token must go nowhere but to this instance's own call.
            after = httpx.QueryParams(urlsplit(str(following)).query)
            if not page or after == query:
                raise BadAnswer(f"The instance sent pages of {name!r} without end.", code="bad-answer")
            query = after


class _Patience:
    """How long an instance may be away while something is followed."""

    def __init__(self) -> None:
        self._away_since: float | None = None

    def answered(self) -> None:
        self._away_since = None

    def pause(self) -> bool:
        """Waits a second; False, at once, when the instance has been away for too long."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > _OUTAGE:
            return False
        time.sleep(1.0)
        return True


def _block(app_id: str, release: str | None) -> str:
    middle = f"/releases/{segment(release)}" if release else ""
    return f"/apps/{segment(app_id)}{middle}/block"
