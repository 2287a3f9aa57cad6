"""Housekeeping of a developer registry: a collection over 1,000 manifests, and the limit on developers' disk.

Makes the storage by hand, as the registry lays it out: no registry has to run. The limit is measured as what
it adds to the judgement of a request, with 5,000 blobs of the developer in the registry, and beside pushes
that change them. Exits with 1 when a target is missed.
"""

import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from gridapps.registry.models import App

sys.path.insert(0, str(Path(__file__).parents[1]))

MANIFESTS, LAYERS = 1000, 4
COLLECTION = 4.0  # times the duration of removing as many directories without any checks, at most
RATIO = 5.0  # time of a decision with the quota to one without, at most
ROUNDS = 200


def main() -> int:
    """Measure and print two lines."""
    with tempfile.TemporaryDirectory(prefix="gb-") as name:
        os.environ["GRIDAPPS_DATA"] = name
        from gridapps.server.instance import prepare

        prepare()
        return _collection() | _limit()


def _collection() -> int:
    """Half of the manifests are those of releases; the others are removed completely."""
    from django.utils import timezone

    from gridapps.housekeeping import sweeping
    from gridapps.registry.models import Release

    app = _app("roads")
    made = list(_images(app.app_id))
    now = timezone.now()
    Release.objects.bulk_create(
        Release(app=app, digest=each, media_type="x", state="valid", size=1, layers=1, pushed_at=now)
        for each in made[::2]
    )
    start = time.perf_counter()
    nothing = sweeping.sweep()
    young = time.perf_counter() - start
    _age()
    start = time.perf_counter()
    gone = sweeping.sweep()
    took = time.perf_counter() - start
    assert not nothing
    assert len(gone) == MANIFESTS // 2 * (2 + 2 * LAYERS), len(gone)  # a link and a blob for each
    plainly = _plainly(len(gone))
    ratio = took / plainly
    print(
        f"collection over {MANIFESTS} manifests: {young:.2f} s when nothing goes, {took:.2f} s when "
        f"{len(gone)} things go; removing as many directories: {plainly:.2f} s; ratio {ratio:.2f}, "
        f"at most {COLLECTION}: {'met' if ratio <= COLLECTION else 'MISSED'} (load {os.getloadavg()[0]:.1f})"
    )
    return ratio > COLLECTION


def _plainly(count: int) -> float:
    """Seconds for removing so many directories with a small file in each."""
    with tempfile.TemporaryDirectory(prefix="gb-", dir=os.environ["GRIDAPPS_DATA"]) as name:
        places = [Path(name) / str(number) for number in range(count)]
        for place in places:
            place.mkdir()
            (place / "link").write_text("sha256")
        start = time.perf_counter()
        for place in places:
            shutil.rmtree(place)
        return time.perf_counter() - start


def _limit() -> int:
    from django.conf import settings

    off = settings.GRIDAPPS.model_copy(update={"max_registry": 0})
    on = settings.GRIDAPPS
    app = _app("rivers")
    list(_images(app.app_id))
    ask = _judgement(app)
    times: dict[str, list[float]] = {"off": [], "still": [], "changing": []}
    for number in range(ROUNDS):
        for name, limits in (("off", off), ("still", on), ("changing", on)):
            settings.GRIDAPPS = limits
            if name == "changing":
                _link(app.app_id, "_layers/sha256", hashlib.sha256(b"%d" % number).hexdigest())
            start = time.perf_counter()
            ask()
            times[name].append(time.perf_counter() - start)
            if name == "changing":
                time.sleep(0.001)
    median = {name: statistics.median(found) * 1000 for name, found in times.items()}
    ratio = median["still"] / median["off"]
    print(
        f"judgement of a request: {median['off']:.1f} ms; with the limit, {MANIFESTS * (1 + LAYERS)} blobs: "
        f"{median['still']:.1f} ms, just after one more came: {median['changing']:.1f} ms; "
        f"ratio {ratio:.2f}, at most {RATIO}: {'met' if ratio <= RATIO else 'MISSED'}"
    )
    return ratio > RATIO


def _judgement(app: "App") -> Callable[[], None]:
    """Ask about the beginning of an upload, as nginx does."""
    from django.conf import settings
    from django.test import Client

    from gridapps.registry import certificates

    issued = certificates.issue(user=app.owner, name="bench")
    headers = {
        "Host": settings.GRIDAPPS.host,
        "X-Client-Certificate": quote(issued.pem),
        "X-Original-Method": "POST",
        "X-Original-URI": f"/v2/{app.app_id}/blobs/uploads/",
    }
    client = Client()

    def ask() -> None:
        answer = client.get("/registry/authorize", headers=headers, secure=True)
        assert answer.status_code == 204, answer.content

    return ask


def _app(app_id: str) -> "App":
    from django.utils import timezone

    from gridapps.access.models import Developer, User
    from gridapps.registry import operations

    user = User.objects.create_user(username=f"developer-of-{app_id}")
    Developer.objects.create(user=user, state="verified", decided_at=timezone.now())
    return operations.create_app(by=user, app_id=app_id, title="Bench")


def _images(name: str) -> Iterator[str]:
    """Images of a repository, no two with a layer in common; their digests."""
    for number in range(MANIFESTS):
        layers = [_blob(f"{name} {number} {layer}".encode()) for layer in range(LAYERS)]
        for layer in layers:
            _link(name, "_layers/sha256", layer)
        document = {"layers": [{"digest": f"sha256:{layer}"} for layer in layers]}
        digest = _blob(json.dumps(document).encode())
        _link(name, "_manifests/revisions/sha256", digest)
        yield f"sha256:{digest}"


def _blob(content: bytes) -> str:
    from gridapps.pushes import disk

    name = hashlib.sha256(content).hexdigest()
    place = disk.developers().blob(name)
    place.mkdir(parents=True)
    (place / "data").write_bytes(content)
    return name


def _link(repository: str, kind: str, name: str) -> None:
    from gridapps.pushes import disk

    place = disk.developers().top / "repositories" / repository / kind / name
    place.mkdir(parents=True)
    (place / "link").write_text(f"sha256:{name}")


def _age() -> None:
    from gridapps.pushes import disk

    then = time.time() - 2 * 86400
    for path in disk.developers().top.rglob("*"):
        os.utime(path, (then, then))


if __name__ == "__main__":
    sys.exit(main())
