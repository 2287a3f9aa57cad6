"""Create the users of the attacked instance in one process, because a command for each would take a second.

Reads `{name: [roles]}` as JSON and prints `{name: {"token": ..., "password": ...}}`.
"""

import json
import os
import secrets
import sys
from datetime import timedelta

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gridapps.config.settings")
django.setup()

from gridapps.access import operations  # noqa: E402 - models need the set-up
from gridapps.access.models import AccessTag  # noqa: E402

made = {}
for name, roles in json.load(sys.stdin).items():
    password = f"pass-{secrets.token_hex(12)}"
    administrator = "administrator" in roles
    user = operations.create_user(by=None, username=name, password=password, administrator=administrator)
    if "developer" in roles:
        operations.verify_developer(user=user, by=None)
    for tag in (role.removeprefix("tag:") for role in roles if role.startswith("tag:")):
        if not AccessTag.objects.filter(name=tag).exists():
            operations.create_tag(by=None, name=tag)
        operations.give_tag(by=None, name=tag, users=[user])
    scopes = ["api", "admin"] if administrator else ["api"]
    token = operations.issue_token(by=None, user=user, lifetime=timedelta(hours=2), scopes=scopes)
    made[name] = {"token": token, "password": password}
json.dump(made, sys.stdout)
