"""The OAuth application of the `gridapps` command: public, with PKCE, at any port of the loopback."""

from django.db import migrations

CLIENT_ID = "gridapps-cli"


def register(apps, schema_editor):
    application = apps.get_model("oauth2_provider", "Application")
    application.objects.get_or_create(
        client_id=CLIENT_ID,
        defaults={
            "name": "gridapps command",
            "client_type": "public",
            "authorization_grant_type": "authorization-code",
            "redirect_uris": "http://127.0.0.1/callback",
        },
    )


def forget(apps, schema_editor):
    apps.get_model("oauth2_provider", "Application").objects.filter(client_id=CLIENT_ID).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0001_initial"),
        ("oauth2_provider", "0022_refreshtoken_token_family_index"),
    ]
    operations = [migrations.RunPython(register, forget)]
