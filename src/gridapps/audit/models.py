"""The one table of the audit. Triggers of the database refuse to change or delete what is in it."""

from django.db import models
from django.db.models.functions import Now


class Entry(models.Model):
    """Somebody did something, or was refused. Names are not kept: users are named by their keys."""

    at = models.DateTimeField(db_default=Now(), editable=False, help_text="on the database's clock")
    event = models.CharField(max_length=40, help_text="one of events.Event")
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
