"""Promotion of a 300 MB image, beside a plain streamed copy of its blobs between the same two registries.

Starts two registries of its own, as an instance starts them, on the loopback. Exits with 1 when the target is
missed. The plain copy is a GET of each blob piped into a PUT by curl, with no judgement on the way.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.stage import MIB, timed
from tests.fixtures.ports import free_port

LAYERS, ROUNDS, AT_MOST = 3, 5, 1.5


def main() -> int:
    """Measure and print one line."""
    with tempfile.TemporaryDirectory(prefix="gb-") as name:
        ports = {"REGISTRY_PORT": free_port(), "TRUSTED_PORT": free_port()}
        os.environ |= {f"GRIDAPPS_{key}": str(port) for key, port in ports.items()}
        os.environ["GRIDAPPS_DATA"] = name
        from gridapps.server.instance import prepare

        settings = prepare()
        from gridapps.pki.authority import Authority
        from gridapps.pki.tokens import Registry
        from gridapps.server import distribution

        Authority.create_or_load(Path(name) / "authority", host="localhost")
        processes = []
        try:
            for service in Registry:
                path = distribution.write(settings, service)
                processes.append(
                    subprocess.Popen(
                        ["docker-registry", "serve", str(path)], env=distribution.clean_environment(),
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    )
                )  # fmt: skip
            time.sleep(2)
            return _measure()
        finally:
            for process in processes:
                process.terminate()
                process.wait(10)


def _measure() -> int:
    pairs = [_round(number) for number in range(ROUNDS + 1)][1:]  # the first one is for warming up
    ratio = sorted(ours / theirs for ours, theirs in pairs)[len(pairs) // 2]
    ours, theirs = (sorted(column)[len(pairs) // 2] for column in zip(*pairs, strict=True))
    verdict = "met" if ratio <= AT_MOST else "MISSED"
    print(
        f"promotion of 300 MB: {ours:.2f} s; plain copy of its blobs: {theirs:.2f} s; "
        f"median ratio {ratio:.2f}, at most {AT_MOST}: {verdict} (load {os.getloadavg()[0]:.1f})"
    )
    return ratio > AT_MOST


def _round(number: int) -> tuple[float, float]:
    """Seconds of a promotion and of a plain copy of an image that neither registry knows."""
    from django.utils import timezone

    from gridapps.access.models import AccessTag, User
    from gridapps.oci.manifests import OCI_MANIFEST, digest_of
    from gridapps.promotion import promoting
    from gridapps.pushes.registry_client import Repository
    from gridapps.registry.models import App, Release, Share
    from tests.registry.built import Image

    # Not fully random, but no two pieces are equal.
    layers = [secrets.token_bytes(MIB) * 100 for _ in range(LAYERS)]
    image = Image(layers=layers)
    resources = {"arguments": {}, "cpus": 1, "memory": 1, "disk": 1, "time": 1, "title": "Bench"}
    owner, _ = User.objects.get_or_create(username="bench")
    app = App.objects.create(app_id=f"bench-{number}", owner=owner, **resources)
    with Repository(app.app_id) as repository:
        for blob in image.blobs:
            repository.put_blob(digest_of(blob), [blob], size=len(blob))
        repository.put_manifest("v1", image.manifest, media_type=OCI_MANIFEST)
    release = Release.objects.create(
        app=app, digest=digest_of(image.manifest), media_type=OCI_MANIFEST, state="valid",
        size=sum(map(len, image.blobs)), layers=LAYERS, pushed_at=timezone.now(),
    )  # fmt: skip
    tag, _ = AccessTag.objects.get_or_create(name="bench")
    share = Share.objects.create(app=app, release=release, access_tag=tag, **resources)
    digests = [digest_of(blob) for blob in image.blobs]
    # Alternately, because the second one finds the blobs in the page cache.
    if number % 2:
        theirs = timed(lambda: _plain_copy(app.app_id, digests))
        ours = timed(lambda: promoting.promote(share))
    else:
        ours = timed(lambda: promoting.promote(share))
        theirs = timed(lambda: _plain_copy(app.app_id, digests))
    share.refresh_from_db()
    if share.state != "active":
        raise RuntimeError(f"the promotion ended as {share.state}: {share.reason}")
    return ours, theirs


def _plain_copy(app_id: str, digests: list[str]) -> None:
    from django.conf import settings

    from gridapps.pki import tokens
    from gridapps.pki.tokens import Registry

    target = f"plain/{app_id}"
    read = tokens.registry_token({app_id: ["pull"]}, subject="bench")
    write = tokens.registry_token({target: ["push", "pull"]}, subject="bench", registry=Registry.TRUSTED)
    source = f"http://127.0.0.1:{settings.GRIDAPPS.registry_port}/v2/{app_id}/blobs"
    base = f"http://127.0.0.1:{settings.GRIDAPPS.trusted_port}"
    for digest in digests:
        script = f"""set -eo pipefail
            at=$(curl -fsS -D - -o /dev/null -X POST -H 'Authorization: Bearer {write}' \\
                {base}/v2/{target}/blobs/uploads/ | tr -d '\\r' | sed -n 's/^Location: //p')
            curl -fsS -H 'Authorization: Bearer {read}' {source}/{digest} |
            curl -fsS -o /dev/null -T - -H 'Authorization: Bearer {write}' "{base}$at&digest={digest}" """
        subprocess.run(["bash", "-c", script], check=True)


if __name__ == "__main__":
    sys.exit(main())
