"""Fills the database of a served application: the cast with tokens, an App, exports, runs. Prints JSON."""

import json
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from shapely import Point

from gridapps.access import operations as access
from gridapps.access.models import User
from gridapps.exports.models import Export, ExportFile
from gridapps.registry import operations as registry
from gridapps.registry.models import Release
from gridapps.runs import operations as runs
from gridapps.runs.models import Output, Run, Task
from gridapps.runs.store import AttemptFiles

FILES = {"dtm.tif": b"II*\0" + bytes(range(256)) * 4000, "a b/ü'\";\\%41?#.txt": b"hello"}


def main() -> None:
    """Make the App, an export of two files, a run that has ended with outputs and one that waits."""
    users = {
        name: access.create_user(by=None, username=name) for name in ("developer", "analyst", "outsider")
    }
    users["administrator"] = access.create_user(by=None, username="administrator", administrator=True)
    access.verify_developer(user=users["developer"], by=None)
    developer = users["developer"]
    app = registry.create_app(by=developer, app_id="roads", title="Roads")
    Release.objects.create(
        app=app, digest="sha256:" + "1" * 64, media_type="m", state="valid", size=1, layers=1,
        pushed_at=timezone.now(),
    )  # fmt: skip
    export = _export(developer)
    ended, waiting = (
        runs.submit(by=developer, request=runs.Request(app="roads", export=export.pk, arguments={}))[0]
        for _ in range(2)
    )
    _end(ended)
    print(
        json.dumps(
            {
                "tokens": {
                    name: access.issue_token(
                        by=None, user=user, lifetime=timedelta(hours=1), scopes=["api", "admin"]
                    )
                    for name, user in users.items()
                },
                "export": export.pk,
                "ended": str(ended.pk),
                "waiting": str(waiting.pk),
            }
        )
    )


def _export(owner: User) -> Export:
    export = Export.objects.create(owner=owner, name="city")
    for index in range(2):
        ExportFile.objects.create(
            export=export, name=f"{index}.laz", path=f"{export.pk}/{index}.laz", size=1, sha256="0" * 64,
            points=10, las_version="1.4", point_format=6, bounds=[0, 0, 0, 1, 1, 1],
            footprint=Point(0, 0).buffer(1).wkb,
        )  # fmt: skip
    return export


def _end(run: Run) -> None:
    now = timezone.now()
    (settings.DATA / "outputs").mkdir(exist_ok=True)
    for task in Task.objects.filter(run=run):
        place = AttemptFiles(run.pk, task.index, 1)
        place.make()
        place.log.write_text(f"2026-01-01T00:00:0{task.index}Z task {task.index} says: hello\n")
        for name, data in FILES.items():
            (place.files / name).parent.mkdir(parents=True, exist_ok=True)
            (place.files / name).write_bytes(data)
            Output.objects.create(task=task, path=name, size=len(data), sha256="0" * 64, media_type="x/y")
    Task.objects.filter(run=run).update(state="SUCCESS", attempt=1, ended_at=now, progress=1)
    Run.objects.filter(pk=run.pk).update(state="SUCCESS", ended_at=now, progress=1, version=2)


if __name__ == "__main__":
    import django

    django.setup()
    main()
