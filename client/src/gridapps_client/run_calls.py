"""Calls about runs: submitting, watching, logs and outputs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gridapps_client import downloads, following, naming
from gridapps_client.address import app_segment, quoted, segment
from gridapps_client.calls import BASE, one
from gridapps_client.connection import Connection
from gridapps_client.decoding import decode
from gridapps_client.errors import NotFound
from gridapps_client.models import (
    LeftOutFiles,
    Line,
    Output,
    Run,
    Submitted,
)
from gridapps_client.streams import lines, log_lines


class RunCalls(Connection):
    """Calls about runs: submitting, watching, logs and outputs."""

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
