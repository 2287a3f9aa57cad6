"""Pulling an image by digest, and why a pull failed: the image, the registry, this node, or the engine."""

import base64
import re
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from gridapps.sandbox import diagnosis
from gridapps.sandbox.engine import image_calls
from gridapps.sandbox.engine.calls import Engine
from gridapps.sandbox.engine.client import NoAnswer, explanation, read_lines
from gridapps.sandbox.engine.ongoing import OngoingPull
from gridapps.sandbox.engine.responses import PullLine
from gridapps.sandbox.protocol import (
    EngineUnavailable,
    ImageUnavailable,
    NodeRefused,
    NoSpace,
    RegistryUnavailable,
    SandboxError,
    Unexplained,
)

_STEP = 300.0  # seconds between two steps of a pull
_LONGEST = 3600.0  # seconds for a whole pull
_PAUSES = (1.0, 4.0)  # seconds between attempts at a pull that fails although everything works
_NO_SUCH_DIGEST = "sha256:" + "0" * 64
_NO_TOKEN = re.compile(r'\w+ "[^" ]+": (?P<words>(unauthorized|denied): .*)', re.DOTALL)


def pull(engine: Engine, reference: str, ongoing: OngoingPull, *, token: str) -> None:
    """Pull an image until the end, or until `ongoing` is abandoned.

    Raises ImageUnavailable if there is no such image or it cannot be unpacked, RegistryUnavailable if the
    registry does not answer, NodeRefused if it refuses the credentials; NoSpace, Unexplained.
    """
    attempt = _Attempt(engine, reference, ongoing, token)
    for pause in (*_PAUSES, None):
        disk = diagnosis.DiskWatch(Path(engine.info().docker_root_dir or "/"))
        with disk.watched():
            failure = attempt.run()
        if failure is None or ongoing.abandoned:
            return
        error = attempt.explain(failure, full=disk.was_full)
        if error is not None:
            raise error
        if pause is not None:
            time.sleep(pause)
    raise ImageUnavailable(
        f"The engine rejects the image {reference}, although registry, disk and engine work: {failure}"
    )


class _Attempt:
    """One reference, with the credentials for its registry."""

    def __init__(self, engine: Engine, reference: str, ongoing: OngoingPull, token: str) -> None:
        self._engine = engine
        self._reference = reference
        self._ongoing = ongoing
        credentials = {"registrytoken": token} if token else {}
        encoded = base64.urlsafe_b64encode(msgspec.json.encode(credentials)).decode()
        self._headers: Mapping[str, str] = {"X-Registry-Auth": encoded}

    def run(self) -> str | None:
        """Pull. None when it succeeded, else the engine's explanation, for people only."""
        end = time.monotonic() + _LONGEST
        try:
            with self._engine.client.stream(
                "POST",
                "/images/create",
                seconds=_STEP,
                query={"fromImage": self._reference},
                headers=self._headers,
                cutter=self._ongoing.cutter,
            ) as response:
                if response.status >= 400:
                    return explanation(response.read())
                for line in filter(bytes.strip, read_lines(response)):
                    progress = msgspec.json.decode(line, type=PullLine)
                    if progress.error:
                        return progress.error
                    self._note(progress)
                    if time.monotonic() > end:
                        return f"It took longer than {_LONGEST:.0f} s."
        except (NoAnswer, msgspec.MsgspecError) as error:
            return str(error)
        return None

    def _note(self, progress: PullLine) -> None:
        if progress.status == "Downloading" and progress.detail.total > 0:
            total = progress.detail.total
            self._ongoing.layers.note(progress.id, done=min(progress.detail.current, total), total=total)
        elif progress.status in {"Download complete", "Extracting", "Pull complete"}:
            self._ongoing.layers.complete(progress.id)

    def explain(self, failure: str, *, full: bool) -> SandboxError | None:
        """Why it failed; None when everything but the image works. `full`: the disk was full meanwhile."""
        try:
            self._engine.check_well()
            if full:
                return NoSpace("The image does not fit on the engine's disk.")
            fault = self._registry_fault()
            if fault is not None:
                return fault
            if self._ask_registry(self._reference)[0] in {401, 403, 404}:
                return ImageUnavailable(f"The registry refused the image {self._reference}: {failure}")
            if not self._can_unpack():
                return Unexplained(f"The engine cannot unpack any image at the moment: {failure}")
        except SandboxError as error:
            return error
        return None

    def _registry_fault(self) -> SandboxError | None:
        """Why the engine can pull nothing from this repository now; None when it can. It asks for a digest
        that no image has, so no image can influence the response."""
        repository = self._reference.partition("@")[0]
        host = repository.partition("/")[0]
        status, text = self._ask_registry(f"{repository}@{_NO_SUCH_DIGEST}")
        if status in {200, 404}:
            return None
        # The engine reports status 500 when the registry refused it a token.
        if refused := _NO_TOKEN.match(text):
            status, text = 403, refused["words"]
        if status in {401, 403}:
            return NodeRefused(f"The registry {host} does not accept the credentials of this node: {text}")
        if diagnosis.distrusts(host):
            return NodeRefused(f"This node does not trust the certificate of the registry {host}.")
        return RegistryUnavailable(f"The registry {host} does not answer the engine (status {status}).")

    def _ask_registry(self, reference: str) -> tuple[int, str]:
        """HTTP status and text of the registry's answer to the engine; 5xx when it does not answer."""
        response = self._engine.call(
            "GET",
            f"/distribution/{quote(reference, safe='/:@')}/json",
            seconds=self._engine.act,
            headers=self._headers,
        )
        return response.status, response.text if response.failed else ""

    def _can_unpack(self) -> bool:
        """Whether the engine can unpack a layer at all: it imports an empty one, which is then removed."""
        try:
            return image_calls.drop(self._engine, image_calls.import_empty(self._engine))
        except EngineUnavailable:
            raise
        except SandboxError:
            return False
