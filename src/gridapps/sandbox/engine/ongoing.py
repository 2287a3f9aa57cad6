"""Pulls that go on in the background for as long as a caller asks about them.

So a caller can give up at any moment, also while the registry sends nothing, and a caller that dies leaves no
pull behind.
"""

import threading
import time
from collections.abc import Callable

from gridapps.sandbox.engine.client import Cutter
from gridapps.sandbox.protocol import PullProgress

ABANDONED = 5.0  # seconds after the last question
_LOOK = 0.5  # seconds between two checks for questions
_MOST_LAYERS = 1000


class LayerBytes:
    """Bytes that the engine has downloaded, and those that it will have, by layer."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}

    def note(self, layer: str, *, done: int, total: int) -> None:
        if layer in self._layers or len(self._layers) < _MOST_LAYERS:
            self._layers[layer] = (done, total)

    def complete(self, layer: str) -> None:
        if layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)

    def sum(self) -> PullProgress:
        layers = list(self._layers.values())
        return PullProgress(done=sum(done for done, _ in layers), total=sum(total for _, total in layers))


class OngoingPull:
    """One pull, and what it needs to be given up."""

    def __init__(self) -> None:
        self.cutter = Cutter()
        self.layers = LayerBytes()
        self.done = threading.Event()
        self.error: Exception | None = None
        self.asked = time.monotonic()

    @property
    def abandoned(self) -> bool:
        """Whether nothing has asked about it for a while."""
        return self.cutter.is_cut


class OngoingPulls:
    """The pulls of one engine, by reference. Thread-safe."""

    def __init__(self) -> None:
        self._pulls: dict[str, OngoingPull] = {}
        self._lock = threading.Lock()

    def ask(
        self, reference: str, begin: Callable[[OngoingPull], None], *, timeout: float
    ) -> PullProgress | None:
        """Wait for the pull of a reference up to `timeout` seconds: None at its end, else its progress.

        `begin(pull)` pulls, in a thread, unless a pull of the reference goes on. Raises what it raises.
        """
        with self._lock:
            pull = self._pulls.get(reference)
            if pull is None or pull.abandoned:
                pull = self._pulls[reference] = self._started(reference, begin)
            pull.asked = time.monotonic()
        end = time.monotonic() + timeout
        while not pull.done.wait(max(0.0, min(_LOOK, end - time.monotonic()))):
            pull.asked = time.monotonic()
            if pull.asked >= end:
                return pull.layers.sum()
        if pull.abandoned:  # just before this question
            return pull.layers.sum()
        self._forget(reference, pull)
        if pull.error is not None:
            raise pull.error
        return None

    def _started(self, reference: str, begin: Callable[[OngoingPull], None]) -> OngoingPull:
        pull = OngoingPull()

        def carry_out() -> None:
            try:
                begin(pull)
            except Exception as error:
                pull.error = error
            finally:
                pull.done.set()

        def watch() -> None:
            while not pull.done.wait(_LOOK):
                if time.monotonic() > pull.asked + ABANDONED:
                    pull.cutter.cut()
                    break
            pull.done.wait()
            if pull.error is not None and not pull.abandoned:
                time.sleep(ABANDONED)  # for callers that ask a little later
            self._forget(reference, pull)

        for work, name in ((carry_out, "pull"), (watch, "pull-watch")):
            threading.Thread(target=work, name=name, daemon=True).start()
        return pull

    def _forget(self, reference: str, pull: OngoingPull) -> None:
        with self._lock:
            if self._pulls.get(reference) is pull:
                del self._pulls[reference]
