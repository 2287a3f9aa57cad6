"""Writes: submit, cancel, block, retry, show to the developer.

Each is one transaction. Those that change the queue ring the workers after the commit.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q, Sum
from django.db.models.functions import Now

from gridapps.access import permissions
from gridapps.access.models import User
from gridapps.arguments import checking
from gridapps.audit import context, record
from gridapps.exports import queries as exports
from gridapps.exports.models import Export, ExportFile
from gridapps.hooks import operations as hooks
from gridapps.registry import queries as registry
from gridapps.registry import sharing
from gridapps.registry.errors import AppNotFound, NotAllowed, NothingToRun, ReleaseNotFound
from gridapps.registry.models import App, Release, Share
from gridapps.registry.queries import ChosenRelease
from gridapps.runs import lanes, node_disk, queue, worker_bell
from gridapps.runs.errors import Blocked, Conflict, InvalidRequest, NotFound, QuotaExceeded, TooManyQueued
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.states import ACTIVE, State
from gridapps.sandbox.resources import faults as bounds
from gridapps.sandbox.resources import shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A submission. `release` is a digest or a tag; `resources` may name cpus, memory, disk, time.

    `priority` (-10 to 10) orders the user's own runs. `hook` has a target, a secret and events, for this run
    only.
    """

    app: str
    arguments: dict[str, Any]
    export: int | None = None
    exportfile: int | None = None
    release: str | None = None
    resources: dict[str, float] | None = None
    priority: int = 0
    hook: dict[str, Any] | None = None

    def digest(self) -> str:
        """SHA-256 of the request: tells a repeated submission from a different one with the same key."""
        # Left out at their defaults, so that digests from before these fields existed still match.
        later = {"priority": 0, "hook": None}
        asked = {name: value for name, value in vars(self).items() if value != later.get(name, ...)}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def submit(*, by: User, request: Request, request_key: UUID | None = None) -> tuple[Run, bool]:
    """Accept a run of one task per export file. Returns the run, and whether it is new.

    With `request_key` the same request again returns the same run. Raises NotFound, InvalidRequest,
    InvalidArguments, InvalidHook, Conflict, TooManyQueued, QuotaExceeded, DiskNearlyFull, checking.Busy.
    """
    known = _known(by, request, request_key)
    if known is not None:
        return known, False
    checked = _checked(by, request)
    try:
        with transaction.atomic():
            return _submit(by, request, request_key, checked)
    except IntegrityError:
        # A concurrent submission with the same key has committed.
        known = _known(by, request, request_key)
        if known is None:
            raise
        return known, False


def cancel(*, by: User, run: Run) -> Run:
    """Cancel a run: queued tasks end now, running ones when their containers have stopped.

    Raises Conflict when the run has ended.
    """
    _require_active(run)
    if run.cancel_requested_at is None:
        with transaction.atomic():
            queue.cancel(run=run.pk)
            record.run_canceled(by=by, run=run.pk)
            worker_bell.ring_on_commit()
        run.refresh_from_db()
    return run


def stop(*, by: User, run: Run, reason: str) -> Run:
    """Cancel another user's run. The user reads the reason.

    Raises NotAnAdministrator, InvalidShare for an invalid reason, Conflict when the run has ended.
    """
    permissions.require_administrator(by)
    kept = sharing.checked_reason(reason)
    with transaction.atomic():
        _require_active(run)
        queue.cancel(run=run.pk, text=f"Canceled by an administrator: {kept}")
        record.run_canceled(by=by, run=run.pk, reason=kept)
        worker_bell.ring_on_commit()
    run.refresh_from_db()
    return run


def show_to_developer(*, by: User, run: Run) -> Run:
    """Show this run to the owner of the App: arguments, names of files, log, outputs. Idempotent.

    Raises NotFound for another user's run, Conflict when the App has no other owner to show it to.
    """
    app = run.release.app
    if permissions.owns(by, app):
        raise Conflict("You are the developer of this App: you see the run already.")
    if app.deleted_at is not None:
        raise Conflict("The App was deleted by its developer, so the run cannot be shown to one.")
    return _set_shown(by, run, shown=True)


def hide_from_developer(*, by: User, run: Run) -> Run:
    """Undo `show_to_developer`, at once. Idempotent. Raises NotFound."""
    return _set_shown(by, run, shown=False)


def block(
    *, by: User, app_id: str, release: str | None = None, reason: str, stop: bool = False
) -> App | Release:
    """Block an App or a release. Queued tasks never start. Running ones go on, or are canceled with `stop`.

    Raises NotAnAdministrator, AppNotFound, ReleaseNotFound, InvalidShare.
    """
    blocked = sharing.block(by=by, app_id=app_id, release=release, reason=reason)
    if stop:
        of_it = Q(release=blocked) if isinstance(blocked, Release) else Q(release__app=blocked)
        for pk in Run.objects.filter(of_it, state__in=ACTIVE).values_list("pk", flat=True):
            with transaction.atomic():
                queue.cancel(run=pk, text=registry.blocked_sentence(blocked))
                record.run_canceled(by=by, run=pk, reason="blocked")
        worker_bell.ring()
    return blocked


def retry(*, by: User, run: Run) -> Run:
    """Submit a new run of the tasks that failed or were canceled, with the same release and arguments.

    Raises Conflict while the run is active or when nothing failed, TooManyQueued,
    QuotaExceeded, DiskNearlyFull.
    """
    with transaction.atomic():
        if Run.objects.get(pk=run.pk).state in ACTIVE:
            raise Conflict("The run has not ended yet: wait for its end, or cancel it.")
        failed = run.tasks.filter(state__in=[State.FAILURE, State.CANCELED]).order_by("index")
        files = [task.exportfile for task in failed.select_related("exportfile")]
        try:
            registry.source_for(run.owner, run.release)
        except NotAllowed as error:
            raise Blocked(str(error)) from None
        if not files:
            raise Conflict("Every task of the run succeeded: there is nothing to run again.")
        resources = ("cpus", "memory", "disk", "time")
        same = ("owner", "release", "export", "exportfile", "arguments", "priority", *resources)
        again = Run(retry_of=run, **{name: getattr(run, name) for name in same})
        return _enqueue(by, again, files)


def _require_active(run: Run) -> None:
    run.refresh_from_db()
    if run.state not in ACTIVE:
        raise Conflict(f"The run has ended already: {run.state}.")


def _set_shown(by: User, run: Run, *, shown: bool) -> Run:
    """Increase the version as well, so that clients that watch the run read it again."""
    if not permissions.owns(by, run):
        raise NotFound(f"You have no run {run.pk}.")
    with transaction.atomic():
        other = Run.objects.filter(pk=run.pk, shown_to_developer=not shown)
        if other.update(shown_to_developer=shown, version=F("version") + 1):
            event = record.run_shown if shown else record.run_hidden
            event(by=by, run=run.pk, app=run.release.app.app_id)
    run.refresh_from_db()
    return run


@dataclass(frozen=True)
class _Checked:
    """Complete arguments, and the schema that they match."""

    schema: dict[str, Any]
    arguments: dict[str, Any]


def _checked(by: User, request: Request) -> _Checked:
    """Check the arguments before the transaction, because checking takes time and would block writers."""
    schema = _choice(by, request).terms.arguments
    return _Checked(schema, checking.complete(schema, request.arguments, by=by.pk))


def _submit(by: User, request: Request, request_key: UUID | None, checked: _Checked) -> tuple[Run, bool]:
    known = _known(by, request, request_key)
    if known is not None:
        return known, False
    chosen = _choice(by, request)
    if chosen.terms.arguments != checked.schema:
        raise Conflict("The App was changed during the submission; submit the run again.")
    export, exportfile, files = _files(by, request)
    run = Run(
        owner=by,
        release=chosen.release,
        export=export,
        exportfile=exportfile,
        arguments=checked.arguments,
        priority=_priority(request.priority),
        request_key=request_key,
        request_hash=request.digest(),
        **_resources(chosen.terms, request.resources or {}),
    )
    _enqueue(by, run, files)
    if request.hook is not None:
        hooks.bind(by=by, run=run.pk, **request.hook)
    return run, True


def _known(by: User, request: Request, request_key: UUID | None) -> Run | None:
    known = Run.objects.filter(owner=by, request_key=request_key).first() if request_key else None
    if known and known.request_hash != request.digest():
        raise Conflict("Another request was submitted under this key; choose a new key.")
    return known


def _files(by: User, request: Request) -> tuple[Export, ExportFile | None, list[ExportFile]]:
    if (request.export is None) == (request.exportfile is None):
        raise InvalidRequest('Name exactly one of "export" and "exportfile".')
    visible = exports.visible_to(by)
    if request.exportfile is not None:
        one = ExportFile.objects.filter(pk=request.exportfile, export__in=visible).first()
        if one is None:
            raise NotFound(f"You have no export file {request.exportfile}.")
        return one.export, one, [one]
    export = visible.filter(pk=request.export or 0).first()
    if export is None:
        raise NotFound(f"You have no export {request.export}.")
    return export, None, list(export.files.order_by("pk"))


def _choice(by: User, request: Request) -> ChosenRelease:
    """The release that runs: see `registry.queries.choose_release`."""
    try:
        return registry.choose_release(by, request.app, request.release)
    except AppNotFound as error:
        raise NotFound(str(error)) from None
    except ReleaseNotFound as error:
        raise InvalidRequest("No such release.", [("/release", str(error))]) from None
    except NotAllowed as error:
        raise Blocked(str(error)) from None
    except NothingToRun as error:
        raise Conflict(str(error)) from None


def _resources(terms: App | Share, wanted: dict[str, float]) -> dict[str, Any]:
    """The requested resources, by default those of the App or share. Raises InvalidRequest out of bounds."""
    resources = {"cpus": terms.cpus, "memory": terms.memory, "disk": terms.disk, "time": terms.time, **wanted}
    faults = [
        (f"/resources/{name}", text) for name, text in bounds(resources, most=settings.GRIDAPPS.limits())
    ]
    if faults:
        raise InvalidRequest("The run requests resources that this instance does not provide.", faults)
    return resources


def _priority(wanted: int) -> int:
    if not -10 <= wanted <= 10:
        raise InvalidRequest("No such priority.", [("/priority", "From -10 to 10; higher goes first.")])
    return wanted


def _log_submission(run: Run, tasks: int) -> None:
    """Log the id of the request and of the run in one line."""
    with context.bound(run=run.pk):
        logger.info("Run %s is submitted, with %s tasks", run.pk, tasks)


def _enqueue(by: User, run: Run, files: list[ExportFile]) -> Run:
    node_disk.require_free()
    # Limits are counted under a lock on the user's row. Rows that only refer to it need not wait.
    User.objects.select_for_update(no_key=True).get(pk=run.owner_id)
    _require_export(run)
    active = Task.objects.filter(owner=run.owner_id, state__in=ACTIVE).count()
    if active + len(files) > settings.GRIDAPPS.max_queued:
        raise TooManyQueued(
            f"You have {active} tasks waiting or running, and this run would add {len(files)}; "
            f"at most {settings.GRIDAPPS.max_queued} are allowed. Wait for some to end, or cancel a run."
        )
    _reserve_outputs(run, len(files))
    if lanes.too_large_for_all(run):
        run.message = (
            "Waits for a larger node: no node of this instance has the resources of a task of this run."
        )
    run.save(force_insert=True)
    lane, rank = lanes.lane_of(run), lanes.rank(run)
    Task.objects.bulk_create(
        (
            Task(
                run=run, owner_id=run.owner_id, index=index, exportfile=file, queued_at=Now(),
                lane=lane, rank=rank,
            )
            for index, file in enumerate(files)
        ),
        batch_size=500,
    )  # fmt: skip
    record.run_submitted(
        by=by,
        run=run.pk,
        release=str(run.release),
        export=run.export_id,
        tasks=len(files),
        retry_of=run.retry_of_id,
    )
    transaction.on_commit(lambda: _log_submission(run, len(files)), robust=True)
    worker_bell.ring_on_commit()
    return run


def _require_export(run: Run) -> None:
    """Raise Conflict if the export was deleted. A deletion waits for the lock, and then finds the run."""
    export = Export.objects.select_for_update(no_key=True).get(pk=run.export_id)
    if export.deleted_at is not None:
        raise Conflict(
            f"The export was deleted on {export.deleted_at:%Y-%m-%d}; submit a run on another one."
        )


def _reserve_outputs(run: Run, tasks: int) -> None:
    """Raise QuotaExceeded when stored outputs and the disk of all active tasks would exceed the limit.

    Call it under the lock on the user's row: the active tasks are the reservation.
    """
    limit = settings.GRIDAPPS.max_outputs
    if not limit:
        return
    kept = Output.objects.filter(task__owner=run.owner_id).aggregate(sum=Sum("size"))["sum"] or 0
    active = Task.objects.filter(owner=run.owner_id, state__in=ACTIVE).order_by()
    reserved = active.aggregate(sum=Sum("run__disk"))["sum"] or 0
    if kept + reserved + tasks * run.disk > limit:
        raise QuotaExceeded(
            f"You keep {shown('disk', kept)} of outputs, your waiting and running tasks may write "
            f"{shown('disk', reserved)} more, and this run asks for {shown('disk', tasks * run.disk)}; at "
            f"most {shown('disk', limit)} are allowed. Ask for less disk, wait for tasks to end, or delete "
            "the outputs of runs that you no longer need."
        )
