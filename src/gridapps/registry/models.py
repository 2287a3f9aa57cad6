"""Apps, releases, the tags that point at them, shares, and certificates of developers and nodes."""

from django.contrib.auth import get_user_model
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from gridapps.access.models import AccessTag
from gridapps.registry import states

APP_ID = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class IssuedCertificate(models.Model):
    """The record of a certificate that the instance issued. The private key is never stored."""

    serial = models.CharField(max_length=40, unique=True, help_text="hexadecimal, lower case")
    fingerprint = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the DER, hexadecimal")
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


class Certificate(IssuedCertificate):
    """A client certificate of a developer."""

    user = models.ForeignKey(get_user_model(), on_delete=models.CASCADE, related_name="certificates")
    name = models.CharField(max_length=100)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints = [
            models.CheckConstraint(
                name="certificate_validity_is_a_span", condition=Q(not_after__gt=models.F("not_before"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.serial})"

    @property
    def holder(self) -> str:
        """The holder, for refusals and tokens."""
        return str(self.user.username)


class NodeCertificate(IssuedCertificate):
    """A client certificate with which the engine of a node pulls images. It allows nothing else."""

    node = models.CharField(max_length=63)

    class Meta:
        ordering = ("node", "-created_at", "-pk")
        constraints = [
            models.CheckConstraint(
                name="node_certificate_validity_is_a_span",
                condition=Q(not_after__gt=models.F("not_before")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.holder} ({self.serial})"

    @property
    def name(self) -> str:
        """The name of the certificate in refusals."""
        return self.holder

    @property
    def holder(self) -> str:
        """The holder, for refusals and tokens."""
        return f"node {self.node}"


class Blockable(models.Model):
    """Something that administrators can block, with a reason that users read."""

    blocked_at = models.DateTimeField(null=True, blank=True)
    blocked_by = models.ForeignKey(
        get_user_model(), null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    blocked_reason = models.CharField(max_length=500, blank=True, default="", db_default="")

    class Meta:
        abstract = True


class App(Blockable):
    """An algorithm of a developer. Its app-id is the name of its repository in the developer registry."""

    app_id = models.CharField(max_length=63, unique=True, validators=[RegexValidator(APP_ID)])
    owner = models.ForeignKey(get_user_model(), on_delete=models.PROTECT, related_name="apps")
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True, max_length=20_000)
    arguments = models.JSONField(help_text="JSON Schema 2020-12 of the argument object")
    cpus = models.FloatField(help_text="processors per task")
    memory = models.BigIntegerField(help_text="bytes per task")
    disk = models.BigIntegerField(help_text="bytes of outputs and log per task")
    time = models.IntegerField(help_text="seconds of wall-clock time per task")
    max_running = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="tasks of it at once on all nodes together, for a licence that allows no more; "
        "empty means no limit",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="a deleted App keeps its app-id, so that nobody else takes the name over",
    )

    class Meta:
        ordering = ("app_id",)
        constraints = [
            models.CheckConstraint(name="app_id_is_a_slug", condition=Q(app_id__regex=APP_ID)),
            models.CheckConstraint(
                name="app_resources_are_positive",
                condition=Q(cpus__gt=0, memory__gt=0, disk__gt=0, time__gt=0),
            ),
            models.CheckConstraint(
                name="app_max_running_is_positive",
                condition=Q(max_running__isnull=True) | Q(max_running__gt=0),
            ),
            models.CheckConstraint(
                name="app_blocked_has_reason", condition=Q(blocked_at__isnull=True) | ~Q(blocked_reason="")
            ),
        ]

    def __str__(self) -> str:
        return self.app_id


class Release(Blockable):
    """One pushed image of an App, identified by the digest of its manifest."""

    class State(models.TextChoices):
        VALID = "valid"
        REFUSED = "refused"
        REMOVED = "removed"

    app = models.ForeignKey(App, on_delete=models.PROTECT, related_name="releases")
    digest = models.CharField(max_length=71, help_text="sha256:... of the pushed manifest or index")
    media_type = models.CharField(max_length=100)
    image = models.CharField(
        max_length=71, blank=True, default="", db_default="",
        help_text="sha256:... of the manifest that runs, which an index contains; empty: not known apart",
    )  # fmt: skip
    state = models.CharField(max_length=7, choices=State)
    reasons = models.JSONField(default=list, help_text="sentences: why it was refused or removed")
    remarks = models.JSONField(
        default=list, db_default=models.Value([], models.JSONField()), blank=True,
        help_text="sentences about what will not work as its developer may expect",
    )  # fmt: skip
    size = models.BigIntegerField(help_text="bytes: config and compressed layers")
    layers = models.IntegerField()
    entrypoint = models.JSONField(default=list)
    command = models.JSONField(default=list)
    environment = models.JSONField(
        null=True, blank=True, help_text="ENV of the image; null: pushed before this was recorded"
    )
    workdir = models.TextField(blank=True, default="/", db_default="/", help_text="WORKDIR of the image")
    pushed_at = models.DateTimeField()
    removed_at = models.DateTimeField(
        null=True, blank=True, help_text="when its image was removed; the release stays, because runs name it"
    )
    certificate = models.ForeignKey(Certificate, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ("-pushed_at", "-pk")
        constraints = [
            models.UniqueConstraint(name="release_once_per_app", fields=["app", "digest"]),
            models.CheckConstraint(
                name="release_digest_is_sha256", condition=Q(digest__regex=r"^sha256:[0-9a-f]{64}$")
            ),
            models.CheckConstraint(
                name="release_image_is_sha256",
                condition=Q(image="") | Q(image__regex=r"^sha256:[0-9a-f]{64}$"),
            ),
            models.CheckConstraint(
                name="release_refused_has_reasons", condition=Q(state="valid") | ~Q(reasons=[])
            ),
            models.CheckConstraint(
                name="release_removed_exactly_with_time",
                condition=Q(state="removed", removed_at__isnull=False)
                | ~Q(state="removed") & Q(removed_at__isnull=True),
            ),
            models.CheckConstraint(
                name="release_blocked_has_reason",
                condition=Q(blocked_at__isnull=True) | ~Q(blocked_reason=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.app}@{self.digest}"


class IndexedManifest(models.Model):
    """A manifest in the index of a release, to which documents can be attached as well."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="indexed_manifests")
    digest = models.CharField(max_length=71, db_index=True, help_text="sha256:... of the manifest")

    class Meta:
        constraints = [
            models.UniqueConstraint(name="indexed_manifest_once", fields=["release", "digest"]),
            models.CheckConstraint(
                name="indexed_manifest_digest_is_sha256", condition=Q(digest__regex=r"^sha256:[0-9a-f]{64}$")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.digest} in {self.release}"


class Attachment(models.Model):
    """A document that a developer attached to a release, such as a signature or an SBOM.

    It was pushed as a layer of a separate manifest, which may have several. It is never unpacked or run.
    """

    class Kind(models.TextChoices):
        SIGNATURE = "signature"
        ATTESTATION = "attestation"
        SBOM = "sbom"
        OTHER = "other"

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="attachments")
    subject = models.CharField(
        max_length=71, blank=True, default="", db_default="",
        help_text="sha256:... of the manifest in the release's index that it is about; empty: of the release",
    )  # fmt: skip
    kind = models.CharField(max_length=11, choices=Kind)
    media_type = models.CharField(max_length=200)
    digest = models.CharField(max_length=71, help_text="sha256:... of the document")
    size = models.BigIntegerField(help_text="bytes")
    manifest = models.CharField(max_length=71, help_text="sha256:... of the manifest that it came with")
    tag = models.CharField(max_length=80, blank=True, help_text="of the manifest; empty: it has a subject")
    position = models.IntegerField(help_text="in the manifest")
    payload = models.BinaryField(blank=True, default=b"", help_text="what a signature is over")
    signature = models.TextField(blank=True, help_text="base64")
    verified_by = models.CharField(max_length=100, blank=True, help_text="known key, when it was looked last")
    pushed_at = models.DateTimeField()
    certificate = models.ForeignKey(Certificate, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(
                name="attachment_once_per_place", fields=["release", "manifest", "position"]
            ),
            models.CheckConstraint(
                name="attachment_digest_is_sha256", condition=Q(digest__regex=r"^sha256:[0-9a-f]{64}$")
            ),
            models.CheckConstraint(
                name="attachment_only_signatures_are_verified",
                condition=Q(verified_by="") | (Q(kind="signature") & ~Q(signature="")),
            ),
            models.CheckConstraint(
                name="attachment_subject_is_sha256",
                condition=Q(subject="") | Q(subject__regex=r"^sha256:[0-9a-f]{64}$"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.digest} of {self.release}"


class PendingAttachment(models.Model):
    """A manifest of attachments that arrived before its release, and waits for it for a limited time."""

    app = models.ForeignKey(App, on_delete=models.CASCADE, related_name="pending_attachments")
    subject = models.CharField(max_length=71, help_text="sha256:... of what it is about")
    manifest = models.CharField(max_length=71, help_text="sha256:... of the manifest that arrived")
    tag = models.CharField(max_length=80, blank=True, help_text="of the manifest; empty: it has a subject")
    pushed_at = models.DateTimeField()
    certificate = models.ForeignKey(Certificate, on_delete=models.CASCADE, related_name="+")

    class Meta:
        ordering = ("pk",)
        constraints = [
            models.UniqueConstraint(name="pending_attachment_once_per_app", fields=["app", "manifest"]),
            models.CheckConstraint(
                name="pending_attachment_digests_are_sha256",
                condition=Q(
                    subject__regex=r"^sha256:[0-9a-f]{64}$", manifest__regex=r"^sha256:[0-9a-f]{64}$"
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.manifest} for {self.app}@{self.subject}"


class Layer(models.Model):
    """What a layer unpacks to, determined at its first push. It holds for every image with the layer."""

    digest = models.CharField(max_length=71, unique=True, help_text="sha256:... of the pushed blob")
    diff_id = models.CharField(max_length=71, help_text="sha256:... of the tar in it")
    size = models.BigIntegerField(help_text="bytes when unpacked")
    files = models.IntegerField()
    index = models.BinaryField(
        null=True, help_text="links, large files and devices in it; without it the layer is read again"
    )

    def __str__(self) -> str:
        return self.digest


class Tag(models.Model):
    """A tag of an App's repository. It may move to another release."""

    app = models.ForeignKey(App, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=128)
    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="tags")
    previous = models.ForeignKey(
        Release, null=True, blank=True, on_delete=models.SET_NULL, related_name="+",
        help_text="what it named before its last move",
    )  # fmt: skip
    moved_at = models.DateTimeField()

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(name="tag_once_per_app", fields=["app", "name"])]

    def __str__(self) -> str:
        return f"{self.app}:{self.name}"


class Share(models.Model):
    """An administrator's grant: holders of the access tag may run the release from the trusted registry.

    The share keeps what users see of the App as it was when it was shared. Later changes do not affect them.
    """

    State = states.ShareState
    OPEN = states.OPEN

    app = models.ForeignKey(App, on_delete=models.PROTECT, related_name="shares")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="shares")
    access_tag = models.ForeignKey(AccessTag, on_delete=models.PROTECT, related_name="shares")
    state = models.CharField(max_length=7, choices=State, default=State.COPYING)
    copied = models.BigIntegerField(default=0, help_text="bytes that are in the trusted registry and checked")
    size = models.BigIntegerField(default=0, help_text="bytes to copy, of every image of the release")
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(get_user_model(), null=True, on_delete=models.SET_NULL, related_name="+")
    activated_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey(
        get_user_model(), null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    reason = models.TextField(blank=True, help_text="why it failed, or what copying waits for")
    attachments = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        blank=True,
        help_text="what is kept with the copy",
    )
    scanned_at = models.DateTimeField(null=True, blank=True)
    scan = models.TextField(
        blank=True, default="", db_default="", help_text="the end of what the scanner printed"
    )
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    arguments = models.JSONField()
    cpus = models.FloatField()
    memory = models.BigIntegerField()
    disk = models.BigIntegerField()
    time = models.IntegerField()

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints = [
            models.UniqueConstraint(
                name="share_open_once_per_release_and_tag",
                fields=["release", "access_tag"],
                condition=Q(state__in=["copying", "active"]),
            ),
            models.CheckConstraint(
                name="share_active_is_whole",
                condition=~Q(state="active") | Q(activated_at__isnull=False, copied=models.F("size")),
            ),
            models.CheckConstraint(
                name="share_ended_exactly_when_over",
                condition=Q(state__in=["copying", "active"], ended_at__isnull=True)
                | Q(state__in=["revoked", "failed"], ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="share_failed_has_reason", condition=~Q(state="failed") | ~Q(reason="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.release} for {self.access_tag}"
