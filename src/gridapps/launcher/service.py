"""Checks the worker's calls and carries them out."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gridapps.launcher import messages
from gridapps.launcher.channel import close, content_of
from gridapps.launcher.handover import hand_over
from gridapps.launcher.inputs import Inputs
from gridapps.launcher.messages import MAX_ARGUMENTS, MAX_ENTRY, Message
from gridapps.launcher.node_policy import Policy
from gridapps.sandbox.protocol import (
    NAME,
    EngineUnavailable,
    EntryPoint,
    ImageUnavailable,
    Launch,
    NameTaken,
    Sandbox,
    SandboxError,
    check_name,
)

Answer = tuple[object, int | None]  # a value and a descriptor


class Service:
    """Thread-safe. `owner` is the worker's account, which gets the outputs."""

    def __init__(self, sandbox: Sandbox, *, policy: Policy, inputs: Path, owner: int) -> None:
        self._sandbox = sandbox
        self._policy = policy
        self._inputs = Inputs(inputs)
        self._owner = owner
        self._starting: set[str] = set()
        self._started = threading.Condition()
        self._looking = threading.Lock()

    def carry_out(self, request: Message, descriptors: list[int]) -> Answer:
        """Raises what the sandbox raises, and ValueError for a call that is not allowed."""
        expected = 3 if isinstance(request, messages.Start) else 0
        if len(descriptors) != expected:
            raise ValueError(f"This call takes {expected} descriptors, not {len(descriptors)}.")
        match request:
            case messages.Start():
                self._start(request, *descriptors)
                return None, None
            case messages.Log():
                return None, self._sandbox.log(request.name) if _is_name(request.name) else None
            case messages.Outputs():
                return None, self._outputs(request.name)
            case _:
                return self._answer(request), None

    def _answer(self, request: Message) -> object:
        """The result of a call. Calls without a result are in `_do`."""
        match request:
            case messages.Version():
                return self._sandbox.version()
            case messages.Held():
                return self._sandbox.held()
            case messages.Changed():
                return self._changed(request.timeout)
            case messages.Layers() | messages.Drop() | messages.Pull():
                return self._about_image(request)
            case messages.Wait():
                return self._wait(request.name, request.timeout)
            case messages.Residents():
                return self._residents(request.labels)
        self._do(request)
        return None

    def _about_image(self, request: messages.Layers | messages.Drop | messages.Pull) -> object:
        """Images of others are hidden from this instance."""
        if isinstance(request, messages.Pull):
            self._check_image(request.image)
            return self._sandbox.pull(request.image, token=request.token, timeout=request.timeout)
        is_ours = self._policy.is_ours(request.image)
        if isinstance(request, messages.Layers):
            return self._sandbox.layers(request.image) if is_ours else None
        return self._sandbox.drop(request.image) if is_ours else True

    def _do(self, request: Message) -> None:
        sandbox = self._sandbox
        match request:
            case messages.Check():
                sandbox.check()
            case messages.Stop():
                self._end(request.name, lambda: sandbox.stop(request.name, grace=request.grace))
            case messages.Remove():
                self._end(request.name, lambda: self._remove(request.name))
            case _:
                raise ValueError(f"There is no call {type(request).__name__}.")

    def _start(self, request: messages.Start, source: int, arguments: int, entry: int) -> None:
        check_name(request.name)
        self._check_image(request.image)
        self._policy.check_limits(request.limits)
        given = content_of(arguments, limit=MAX_ARGUMENTS)
        runs = _entry_point(content_of(entry, limit=MAX_ENTRY))
        with self._alone(request.name):
            known = self._inputs.has(request.name)
            if not known and len(self._inputs.names()) >= self._policy.containers:
                raise SandboxError(
                    f"This node already has {self._policy.containers} containers, its maximum."
                )
            path = self._inputs.attach(request.name, source)
            launch = Launch(
                name=request.name,
                image=request.image,
                arguments=given,
                input=path,
                input_name=request.input_name,
                run=request.run,
                task=request.task,
                limits=request.limits,
                deadline=request.deadline,
                labels=request.labels,
                entry=runs,
            )
            try:
                self._sandbox.start(launch)
            except EngineUnavailable:
                raise  # the container may have been started
            except BaseException:
                if not known:
                    self._inputs.detach(request.name)
                raise

    def _check_image(self, image: str) -> None:
        if not self._policy.is_ours(image):
            raise ImageUnavailable(
                f"The image {image} is not named by digest in a registry of this instance "
                f"({', '.join(self._policy.registries)})."
            )

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Mark the name as being started: a worker that takes over from a dead one must wait for that."""
        with self._started:
            if name in self._starting:
                raise NameTaken(f"{name} is being started already.")
            self._starting.add(name)
        try:
            yield
        finally:
            with self._started:
                self._starting.remove(name)
                self._started.notify_all()

    def _wait(self, name: str, timeout: float) -> object:
        if not _is_name(name):
            raise KeyError(name)
        end = time.monotonic() + timeout
        with self._started:
            if not self._started.wait_for(lambda: name not in self._starting, timeout):
                return None
        return self._sandbox.wait(name, timeout=max(0.0, end - time.monotonic()))

    def _end(self, name: str, action: Callable[[], None]) -> None:
        """Stop or remove, but not during a start. A container with an invalid name does not exist."""
        with self._started:
            if name in self._starting:
                raise SandboxError(f"{name} is being started: ask again later.")
        if _is_name(name):
            action()

    def _remove(self, name: str) -> None:
        self._sandbox.remove(name)
        self._inputs.detach(name)

    def _changed(self, timeout: float) -> bool:
        """Serialised: the call of a worker that has died may still be running."""
        end = time.monotonic() + timeout
        if not self._looking.acquire(timeout=timeout):
            return False
        try:
            return self._sandbox.engine_changed(timeout=max(0.0, end - time.monotonic()))
        finally:
            self._looking.release()

    def _outputs(self, name: str) -> int:
        if not _is_name(name):
            raise KeyError(name)
        if self._sandbox.wait(name, timeout=0) is None:
            raise SandboxError(f"{name} still runs: it has no outputs yet.")
        descriptor = self._sandbox.outputs(name)
        try:
            if self._owner != 0:
                hand_over(descriptor, owner=self._owner)
        except BaseException:
            close([descriptor])
            raise
        return descriptor

    def _residents(self, labels: dict[str, str]) -> object:
        attached = set(self._inputs.names())
        with self._started:
            attached -= self._starting
        # Listed last, so that it has everything started meanwhile; inputs without a resident are leftovers.
        everything = self._sandbox.residents(labels={})
        for name in attached - {resident.name for resident in everything}:
            self._inputs.detach(name)
        wanted = labels.items()
        return [resident for resident in everything if wanted <= resident.labels.items()]


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None


def _entry_point(content: bytes) -> EntryPoint | None:
    """What the image runs, from the worker's JSON. Raises ValueError."""
    entry = msgspec.json.decode(content, type=EntryPoint | None)
    if entry is None:
        return None
    if not entry.command or not entry.workdir.startswith("/"):
        raise ValueError("An entry point has a command and an absolute path as its WORKDIR.")
    if any("\0" in word for word in (*entry.command, *entry.environment, entry.workdir)):
        raise ValueError("An entry point has no NUL bytes.")
    return entry
