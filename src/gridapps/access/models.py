"""Users, developers and access tags."""

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q


class User(AbstractUser):
    """A person or a program that may log in. Administrators are superusers."""


class AccessTag(models.Model):
    """A named group permission: products and shared Apps carry tags, users hold them."""

    name = models.CharField(max_length=63, unique=True, validators=[RegexValidator(r"^[a-z0-9][a-z0-9-]*$")])
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
    statement = models.TextField(blank=True, help_text="what the user means to build, for the administrator")
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
