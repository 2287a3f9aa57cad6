"""What OAuth applications may ask for. The command may ask for `admin` too: its users are asked each time."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def allow(apps, schema_editor):
    command = apps.get_model("oauth2_provider", "Application").objects.get(client_id="gridapps-cli")
    apps.get_model("access", "ApplicationScopes").objects.create(application=command, scopes=["api", "admin"])


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0002_command_line_client"),
        migrations.swappable_dependency(settings.OAUTH2_PROVIDER_APPLICATION_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="ApplicationScopes",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("scopes", models.JSONField(help_text="list of scopes")),
                (
                    "application",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="allowed",
                        to=settings.OAUTH2_PROVIDER_APPLICATION_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "application scopes",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("scopes", []), _negated=True), name="application_has_a_scope"
                    )
                ],
            },
        ),
        migrations.RunPython(allow, migrations.RunPython.noop),
    ]
