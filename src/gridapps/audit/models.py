"""The table of the audit. Triggers of the database refuse to change or delete its rows."""

from enum import StrEnum

from django.db import models
from django.db.models.functions import Now


class Entry(models.Model):
    """An actor did something, or was refused. Users are recorded by key, not by name."""

    class Event(StrEnum):
        """What happened, in the past tense. `record` has a function for each."""

        USER_CREATED = "user.created"
        USER_RETIRED = "user.retired"
        USER_LOGGED_IN = "user.logged-in"
        USER_LOGIN_FAILED = "user.login-failed"
        USER_PASSWORD_CHANGED = "user.password-changed"  # noqa: S105 - a name
        TOKEN_REVOKED = "token.revoked"  # noqa: S105 - a name
        DEVICE_ALLOWED = "device.allowed"
        DEVICE_REFUSED = "device.refused"
        TOKEN_ISSUED = "token.issued"  # noqa: S105 - a name
        APPLICATION_REGISTERED = "application.registered"
        APPLICATION_DELETED = "application.deleted"

        DEVELOPER_REQUESTED = "developer.requested"
        DEVELOPER_VERIFIED = "developer.verified"
        DEVELOPER_REFUSED = "developer.refused"
        CERTIFICATE_ISSUED = "certificate.issued"
        CERTIFICATE_REVOKED = "certificate.revoked"
        NODE_CERTIFICATE_ISSUED = "node-certificate.issued"
        NODE_CERTIFICATE_REVOKED = "node-certificate.revoked"

        TAG_CREATED = "tag.created"
        TAG_GIVEN = "tag.given"
        TAG_TAKEN = "tag.taken"
        TAG_DELETED = "tag.deleted"

        APP_CREATED = "app.created"
        APP_CHANGED = "app.changed"
        APP_DELETED = "app.deleted"
        RELEASE_PUSHED = "release.pushed"
        RELEASE_REFUSED = "release.refused"
        ATTACHMENT_PUSHED = "attachment.pushed"
        ATTACHMENT_REFUSED = "attachment.refused"
        RELEASE_REMOVED = "release.removed"
        SHARE_CREATED = "share.created"
        SHARE_SCANNED = "share.scanned"
        SHARE_ACTIVATED = "share.activated"
        SHARE_FAILED = "share.failed"
        SHARE_REVOKED = "share.revoked"
        BLOCK_SET = "block.set"
        BLOCK_LIFTED = "block.lifted"

        UPLOAD_BEGUN = "upload.begun"
        UPLOAD_ABANDONED = "upload.abandoned"
        EXPORT_IMPORTED = "export.imported"
        EXPORT_RENAMED = "export.renamed"
        EXPORT_DELETED = "export.deleted"
        RUN_SUBMITTED = "run.submitted"
        RUN_CANCELED = "run.canceled"
        RUN_SHOWN = "run.shown"
        RUN_HIDDEN = "run.hidden"
        RUN_NOT_ALLOWED = "run.not-allowed"
        OUTPUTS_DOWNLOADED = "outputs.downloaded"
        LOG_READ = "log.read"
        OUTPUTS_REMOVED = "outputs.removed"

        NODE_DRAINED = "node.drained"
        NODE_UNDRAINED = "node.undrained"

        REFUSED = "refused"
        ADMINISTERED = "administered"

    at = models.DateTimeField(db_default=Now(), editable=False, help_text="on the database's clock")
    event = models.CharField(max_length=40, help_text="one of Entry.Event")
    actor = models.CharField(
        max_length=100, help_text='"user:KEY", "node:NAME", "operator" (command line) or "instance" (itself)'
    )
    subject = models.CharField(max_length=300, help_text='what it was done to, such as "app:roads"')
    details = models.JSONField(default=dict)
    request = models.CharField(max_length=32, blank=True, help_text="id of the request, as in the log")
    address = models.GenericIPAddressField(null=True, help_text="where the request came from")

    class Meta:
        ordering = ("-pk",)
        verbose_name_plural = "entries"
        indexes = [
            models.Index(name="entry_by_actor", fields=["actor", "event", "at"]),
            models.Index(name="entry_by_subject", fields=["subject", "at"]),
            models.Index(name="entry_by_time", fields=["at"]),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.subject}"
