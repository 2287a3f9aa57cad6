"""Secrets of hooks are encrypted with a key that is not in the database."""

from django.conf import settings
from django.db import migrations, models


def seal(apps, schema_editor):
    from gridapps.hooks import sealing

    hooks = apps.get_model("hooks", "Hook").objects.all()
    plain = [hook for hook in hooks.only("pk", "secret").iterator() if not sealing.is_sealed(hook.secret)]
    if plain and not (settings.DATA / "secret-key").is_file():
        raise RuntimeError(
            f"The secrets of {len(plain)} hooks cannot be encrypted, because this machine has no "
            f"{settings.DATA / 'secret-key'}: run `gridapps-server migrate` on the first machine."
        )
    for hook in plain:
        hooks.filter(pk=hook.pk, secret=hook.secret).update(secret=sealing.sealed(hook.secret))


def open_again(apps, schema_editor):
    from gridapps.hooks import sealing

    hooks = apps.get_model("hooks", "Hook").objects.all()
    for hook in hooks.only("pk", "secret").iterator():
        hooks.filter(pk=hook.pk).update(secret=sealing.opened(hook.secret))


class Migration(migrations.Migration):
    dependencies = [("hooks", "0001_initial")]
    operations = [
        migrations.AlterField(
            "Hook", "secret", models.TextField(db_column="secret", help_text="key of the signatures, encrypted")
        ),
        migrations.RunPython(seal, open_again, elidable=True),
        # The column keeps its name: only the model calls it something else.
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RenameField("Hook", "secret", "sealed_secret")]
        ),
    ]
