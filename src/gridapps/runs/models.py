"""Nodes, lanes, runs, tasks, attempts and outputs."""

import uuid

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Q

from gridapps.exports.models import Export, ExportFile
from gridapps.registry.models import App, Release
from gridapps.runs.states import State

_STATES = [(state.value, state.value) for state in State]
_TERMINAL = Q(state__in=["SUCCESS", "FAILURE", "CANCELED"])


class Node(models.Model):
    """A machine with a container engine, as its worker describes it.

    The worker writes the row at its start and every few seconds. Administrators set `draining`.
    """

    name = models.CharField(max_length=63, primary_key=True)
    session = models.UUIDField(
        null=True,
        help_text="fence: session of the worker that acts for the node; empty after an orderly stop",
    )
    place = models.CharField(
        max_length=64, blank=True, help_text="identifies the machine and the data directory of the worker"
    )
    slots = models.PositiveIntegerField(help_text="tasks at once")
    cpus = models.FloatField(help_text="processors for tasks")
    memory = models.BigIntegerField(help_text="bytes for tasks")
    disk = models.BigIntegerField(help_text="bytes for the outputs of running tasks")
    version = models.CharField(max_length=32, help_text="of the worker")
    engine_version = models.CharField(max_length=100, blank=True)
    engine_latency = models.FloatField(
        null=True, help_text="response time of the engine in seconds; empty without a response"
    )
    stuck = models.TextField(
        blank=True,
        default="",
        db_default="",
        help_text="a line for each container that the engine cannot remove",
    )
    free_disk = models.BigIntegerField(null=True, help_text="free bytes where tasks and outputs are written")
    min_free_disk = models.BigIntegerField(
        null=True, help_text="free bytes below which the node claims no tasks; 0 means none"
    )
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(help_text="on the database's clock")
    draining = models.BooleanField(
        default=False, db_default=False, help_text="claims no more tasks; running ones go on"
    )

    reserved = models.ForeignKey(
        "Lane", null=True, blank=True, on_delete=models.SET_NULL, related_name="+",
        help_text="the node claims nothing else until a task of this lane fits",
    )  # fmt: skip

    class Meta:
        ordering = ("name",)
        constraints = [
            models.CheckConstraint(
                name="node_capacity_is_positive",
                condition=Q(slots__gt=0, cpus__gt=0, memory__gt=0, disk__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Lane(models.Model):
    """Queued tasks that are alike: of one user and one App, with the same resources.

    What holds back the first task of a lane holds back all of them. So a claim reads lanes, which are few,
    and not tasks.
    """

    owner = models.ForeignKey(get_user_model(), on_delete=models.CASCADE, related_name="+")
    app = models.ForeignKey(App, on_delete=models.CASCADE, related_name="+")
    cpus = models.FloatField()
    memory = models.BigIntegerField()
    disk = models.BigIntegerField()
    turn = models.DateTimeField(help_text="when a task of the owner was claimed last")
    passed_over_at = models.DateTimeField(null=True, help_text="since when it is next and fits on no node")

    class Meta:
        ordering = ("pk",)
        indexes = [models.Index(name="lane_by_turn", fields=["turn", "id"])]
        constraints = [
            models.UniqueConstraint(name="lane_once", fields=["owner", "app", "cpus", "memory", "disk"])
        ]

    def __str__(self) -> str:
        return f"{self.owner_id}/{self.app_id}: {self.cpus} processors, {self.memory} and {self.disk} bytes"


class Turn(models.Model):
    """When a task of a user was last claimed. The user with the earliest time is next."""

    owner = models.OneToOneField(
        get_user_model(), primary_key=True, on_delete=models.CASCADE, related_name="+"
    )
    at = models.DateTimeField(help_text="on the database's clock")

    def __str__(self) -> str:
        return f"{self.owner_id}: {self.at}"


class Run(models.Model):
    """A release applied to an export (or to one file of it) with arguments. One task per export file."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(get_user_model(), on_delete=models.PROTECT, related_name="runs")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="runs")
    export = models.ForeignKey(Export, on_delete=models.PROTECT, related_name="runs")
    exportfile = models.ForeignKey(ExportFile, null=True, on_delete=models.PROTECT, related_name="+")
    arguments = models.JSONField(help_text="the user's arguments with the schema's defaults filled in")
    cpus = models.FloatField()
    memory = models.BigIntegerField(help_text="bytes")
    disk = models.BigIntegerField(help_text="bytes")
    time = models.IntegerField(help_text="seconds")
    priority = models.SmallIntegerField(
        default=0, db_default=0, help_text="among the owner's runs: -10 to 10, higher goes first"
    )
    state = models.CharField(max_length=8, choices=_STATES, default=State.QUEUED)
    progress = models.FloatField(default=0, help_text="0 to 1, weighted by points")
    message = models.CharField(max_length=200, blank=True, help_text="the newest progress message")
    reason = models.CharField(max_length=32, blank=True, help_text="code: why it ended badly")
    reason_text = models.TextField(blank=True)
    retry_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="retries")
    version = models.PositiveIntegerField(default=1, help_text="grows with every visible change")
    request_key = models.UUIDField(null=True, help_text="the client's own key of an idempotent submission")
    request_hash = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 of the request with that key"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    cancel_text = models.CharField(
        max_length=600, blank=True, default="", db_default="",
        help_text="reason for the owner, if another user canceled it",
    )  # fmt: skip
    shown_to_developer = models.BooleanField(
        default=False, db_default=False, help_text="its owner shows it to the owner of the App"
    )
    outputs_removed_at = models.DateTimeField(
        null=True, help_text="when its outputs and its log were removed"
    )
    files_left = models.BooleanField(
        default=False, db_default=False, help_text="removed outputs may still have files in the storage"
    )

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index(name="run_counts", fields=["release", "ended_at", "state", "owner"]),
            models.Index(
                name="run_shown",
                fields=["release", "-created_at", "-id"],
                condition=Q(shown_to_developer=True),
            ),
            models.Index(
                name="run_with_outputs",
                fields=["ended_at"],
                condition=Q(ended_at__isnull=False, outputs_removed_at__isnull=True),
            ),
            models.Index(
                name="run_with_files_left", fields=["outputs_removed_at"], condition=Q(files_left=True)
            ),
            models.Index(name="run_by_end", fields=["ended_at"]),
            models.Index(name="run_by_owner", fields=["owner", "-created_at", "-id"]),
            models.Index(name="run_by_owner_and_state", fields=["owner", "state", "-created_at", "-id"]),
        ]
        constraints = [
            models.UniqueConstraint(
                name="run_once_per_request_key",
                fields=["owner", "request_key"],
                condition=Q(request_key__isnull=False),
            ),
            models.CheckConstraint(
                name="run_ended_exactly_when_terminal",
                condition=(_TERMINAL & Q(ended_at__isnull=False)) | (~_TERMINAL & Q(ended_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="run_progress_in_range", condition=Q(progress__gte=0, progress__lte=1)
            ),
            models.CheckConstraint(
                name="run_priority_in_range", condition=Q(priority__gte=-10, priority__lte=10)
            ),
            models.CheckConstraint(
                name="run_failure_has_reason", condition=~Q(state="FAILURE") | ~Q(reason="")
            ),
            models.CheckConstraint(
                name="run_outputs_removed_after_its_end",
                condition=Q(outputs_removed_at__isnull=True) | _TERMINAL,
            ),
            models.CheckConstraint(
                name="run_files_left_of_what_was_removed",
                condition=Q(files_left=False) | Q(outputs_removed_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Task(models.Model):
    """One container execution of a run, over one export file."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tasks")
    owner = models.ForeignKey(get_user_model(), on_delete=models.PROTECT, related_name="+")
    index = models.PositiveIntegerField()
    exportfile = models.ForeignKey(ExportFile, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=8, choices=_STATES, default=State.QUEUED)
    progress = models.FloatField(default=0)
    message = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=32, blank=True)
    reason_text = models.TextField(blank=True)
    exit_code = models.IntegerField(null=True)
    usage = models.JSONField(
        default=dict, help_text="cpu_seconds, memory_bytes, disk_bytes of the last attempt"
    )
    left_out = models.JSONField(
        default=list, help_text="the first outputs that collection refused: path, why, lost"
    )
    left_out_count = models.PositiveIntegerField(
        default=0, db_default=0, help_text="all outputs that collection refused"
    )
    attempt = models.PositiveSmallIntegerField(default=0, help_text="number of the last attempt")
    token = models.UUIDField(null=True, help_text="fence: only the holder may change the task")
    node = models.CharField(max_length=63, blank=True)
    lease_until = models.DateTimeField(null=True, help_text="on the database's clock")
    deadline = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(
        null=True, help_text="when the last attempt was claimed, or its program last wrote to its log"
    )
    queued_at = models.DateTimeField()
    lane = models.ForeignKey(
        Lane, null=True, on_delete=models.SET_NULL, related_name="tasks",
        help_text="a queued task without a lane gets one with the next claim",
    )  # fmt: skip
    rank = models.DateTimeField(
        null=True, help_text="queued_at, moved by the priority; the earliest in the lane is next"
    )
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("run", "index")
        indexes = [
            models.Index(name="task_in_lane", fields=["lane", "rank", "index"], condition=Q(state="QUEUED")),
            models.Index(
                name="task_without_lane", fields=["queued_at"], condition=Q(state="QUEUED", lane__isnull=True)
            ),
            models.Index(name="task_queue", fields=["owner", "rank", "index"], condition=Q(state="QUEUED")),
            models.Index(name="task_by_run_and_state", fields=["run", "state", "index"]),
            models.Index(name="task_running", fields=["node", "lease_until"], condition=Q(state="RUNNING")),
            models.Index(name="task_running_by_owner", fields=["owner"], condition=Q(state="RUNNING")),
        ]
        constraints = [
            models.UniqueConstraint(name="task_index_once_per_run", fields=["run", "index"]),
            models.CheckConstraint(
                name="task_running_exactly_with_lease",
                condition=Q(state="RUNNING", token__isnull=False, lease_until__isnull=False)
                | (~Q(state="RUNNING") & Q(token__isnull=True, lease_until__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_ended_exactly_when_terminal",
                condition=(_TERMINAL & Q(ended_at__isnull=False)) | (~_TERMINAL & Q(ended_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="task_failure_has_reason", condition=~Q(state="FAILURE") | ~Q(reason="")
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Attempt(models.Model):
    """One attempt at a task."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    node = models.CharField(max_length=63)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=32, blank=True)
    reason_text = models.TextField(blank=True)
    exit_code = models.IntegerField(null=True)
    usage = models.JSONField(default=dict)

    class Meta:
        ordering = ("task", "number")
        indexes = [models.Index(name="attempt_by_end", fields=["ended_at"])]
        constraints = [models.UniqueConstraint(name="attempt_once", fields=["task", "number"])]

    def __str__(self) -> str:
        return f"{self.task_id}/{self.number}"


class Tally(models.Model):
    """How many rows of a kind have ended (`runs.tallies`)."""

    metric = models.CharField(max_length=40)
    labels = models.CharField(max_length=200, blank=True, help_text="their values, as a JSON list")
    total = models.BigIntegerField(default=0)
    until = models.DateTimeField(null=True, help_text="rows that ended until then are counted")

    class Meta:
        constraints = [models.UniqueConstraint(name="tally_once", fields=["metric", "labels"])]

    def __str__(self) -> str:
        return f"{self.metric} {self.labels}"


class Output(models.Model):
    """A file that a task wrote to /grid and that was collected."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="outputs")
    path = models.CharField(max_length=1024, help_text="relative to /grid, with / between names")
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    media_type = models.CharField(max_length=100)

    class Meta:
        ordering = ("task", "path")
        constraints = [models.UniqueConstraint(name="output_path_once_per_task", fields=["task", "path"])]

    def __str__(self) -> str:
        return self.path
