from django.db import migrations

from gridapps.audit import guard


def _install(_apps, editor):
    guard.install(editor.connection)


def _remove(_apps, editor):
    guard.remove(editor.connection)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(_install, _remove)]
