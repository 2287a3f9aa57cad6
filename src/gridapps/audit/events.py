"""The events of the audit. `record` has a function for each, and docs/audit.md a row."""

from enum import StrEnum


class Event(StrEnum):
    """Named by what was done, in the past tense."""

    USER_CREATED = "user.created"
    USER_RETIRED = "user.retired"
    USER_LOGGED_IN = "user.logged-in"
    USER_LOGIN_FAILED = "user.login-failed"
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

    EXPORT_IMPORTED = "export.imported"
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
