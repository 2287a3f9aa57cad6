"""Users, developers, access tags, and what OAuth applications may ask for."""

import copy
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now

from gridapps.access.errors import LastAdministrator

TAG_NAME = r"^[a-z0-9][a-z0-9-]*$"


class User(AbstractUser):
    """A person or a program that may log in. Administrators are superusers."""

    _restricted = False

    @property
    def is_administrator(self) -> bool:
        """Whether the user administers the instance. Code asks `permissions`; this is for templates."""
        return self.is_active and self.is_superuser

    def restricted(self) -> "User":
        """The same user without an administrator's rights, for requests that must not use them.

        The object cannot be saved: that would take the rights away for good.
        """
        same = copy.copy(self)
        same.is_superuser = same.is_staff = False
        same._restricted = True
        return same

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the user. Raises TypeError for a restricted user, LastAdministrator."""
        if self._restricted:
            raise TypeError("A restricted user is not saved: load the user again.")
        with transaction.atomic():
            if not (self._state.adding or self.is_administrator):
                self._require_another_administrator()
            super().save(*args, **kwargs)

    def _require_another_administrator(self) -> None:
        administrators = User.objects.filter(is_active=True, is_superuser=True)
        if not administrators.filter(pk=self.pk).exists():
            return
        # All are locked, so that two administrators who resign at once do not rely on each other.
        present = list(administrators.select_for_update().order_by("pk"))
        if [each.pk for each in present] == [self.pk]:
            raise LastAdministrator(f"{present[0]} is the last administrator: name another one first.")


class AccessTag(models.Model):
    """A named group permission: shared Apps have tags, users hold them."""

    name = models.CharField(max_length=63, unique=True, validators=[RegexValidator(TAG_NAME)])
    description = models.TextField(blank=True)
    holders = models.ManyToManyField(User, related_name="access_tags", blank=True)

    def __str__(self) -> str:
        return self.name


class Developer(models.Model):
    """A user's request to be a developer, and what an administrator decided."""

    class State(models.TextChoices):
        REQUESTED = "requested"
        VERIFIED = "verified"
        REFUSED = "refused"

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="developer")
    state = models.CharField(max_length=9, choices=State, default=State.REQUESTED)
    statement = models.TextField(blank=True, help_text="what the user plans to build, for the administrator")
    requested_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="developer_decided_has_time",
                condition=Q(state="requested") | Q(decided_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.state})"


class SpentCode(models.Model):
    """A used authorization code and its tokens, which are revoked when it is used again."""

    code = models.CharField(max_length=64, primary_key=True, help_text="its hash")
    application = models.ForeignKey(
        settings.OAUTH2_PROVIDER_APPLICATION_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    access_token = models.BigIntegerField(help_text="key of the access token")
    family = models.UUIDField(null=True, help_text="of the refresh tokens")
    used_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(name="spent_code_used", fields=["used_at"])]

    def __str__(self) -> str:
        return f"{self.used_at:%F %T}"


class DeviceLogin(models.Model):
    """A login that a terminal began and a user decides in a browser (RFC 8628). It is deleted once used."""

    class State(models.TextChoices):
        PENDING = "pending"
        ALLOWED = "allowed"
        REFUSED = "refused"

    device_code = models.CharField(max_length=64, primary_key=True, help_text="its hash")
    user_code = models.CharField(max_length=64, unique=True, help_text="its hash")
    scopes = models.JSONField(help_text="list of scopes")
    address = models.GenericIPAddressField(null=True, help_text="of the terminal")
    state = models.CharField(max_length=7, choices=State, default=State.PENDING)
    user = models.ForeignKey(
        User, null=True, on_delete=models.CASCADE, related_name="+", help_text="who decided"
    )
    interval = models.PositiveSmallIntegerField(help_text="seconds between two questions of the terminal")
    asked_at = models.DateTimeField(null=True, help_text="the terminal's last question")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="device_login_is_decided_by_a_user",
                condition=Q(state="pending", user__isnull=True) | ~Q(state="pending") & Q(user__isnull=False),
            ),
        ]
        indexes = [models.Index(name="device_login_expires", fields=["expires_at"])]

    def __str__(self) -> str:
        return f"{self.state}, {self.created_at:%F %T}"


class WrongCodes(models.Model):
    """How many wrong codes of device logins a user has entered since a moment."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="+")
    since = models.DateTimeField()
    count = models.PositiveIntegerField()

    class Meta:
        verbose_name_plural = "wrong codes"

    def __str__(self) -> str:
        return f"{self.count} since {self.since:%F %T}"


class PersonalToken(models.Model):
    """The name of an access token that a user made. It goes with the token."""

    token = models.OneToOneField(
        "oauth2_provider.AccessToken", on_delete=models.CASCADE, primary_key=True, related_name="personal"
    )
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class ApplicationScopes(models.Model):
    """The scopes that an OAuth application may ask for, as chosen when it was registered."""

    application = models.OneToOneField(
        settings.OAUTH2_PROVIDER_APPLICATION_MODEL, on_delete=models.CASCADE, related_name="allowed"
    )
    scopes = models.JSONField(help_text="list of scopes")

    class Meta:
        verbose_name_plural = "application scopes"
        constraints = [models.CheckConstraint(name="application_has_a_scope", condition=~Q(scopes=[]))]

    def __str__(self) -> str:
        return " ".join(self.scopes)
