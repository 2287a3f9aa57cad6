"""Codes and keys of sessions are stored as hashes from now on, and codes that were used are remembered.

Existing sessions and codes are deleted, because they are stored in plain text. Users log in again.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now


def delete(apps, schema_editor):
    apps.get_model("sessions", "Session").objects.all().delete()
    apps.get_model("oauth2_provider", "Grant").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0003_application_scopes"),
        ("sessions", "0001_initial"),
        migrations.swappable_dependency(settings.OAUTH2_PROVIDER_APPLICATION_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="SpentCode",
            fields=[
                ("code", models.CharField(help_text="its hash", max_length=64, primary_key=True, serialize=False)),
                ("access_token", models.BigIntegerField(help_text="key of the access token")),
                ("family", models.UUIDField(help_text="of the refresh tokens", null=True)),
                ("used_at", models.DateTimeField(db_default=Now())),
                (
                    "application",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL,
                    ),
                ),
            ],
            options={"indexes": [models.Index(fields=["used_at"], name="spent_code_used")]},
        ),
        migrations.RunPython(delete, migrations.RunPython.noop, elidable=True),
    ]
