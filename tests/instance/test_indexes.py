"""An index from its push to the end of a run: the engine runs the image that the instance has chosen."""

import json
import subprocess
import uuid
from pathlib import Path

from gridapps.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.instance.conftest import Stage
from tests.registry.built import Attestation, descriptor, digest, encoded, entry, index
from tests.registry.places import Place, door, upload


def test_an_image_in_a_nested_index_with_attestations_runs(
    stage: Stage, program_image: str, tmp_path: Path
) -> None:
    """Engines cannot choose from this index: it is nested, and its image has no platform."""
    place = Place(stage.instance, stage.developer, f"app-{uuid.uuid4().hex[:8]}")
    stage.developer.create_app(place.app)
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet",
         f"docker-daemon:{program_image}", f"oci:{tmp_path}:v1"],
        check=True, timeout=120,
    )  # fmt: skip

    def blob(name: str) -> bytes:
        return (tmp_path / "blobs" / "sha256" / name.removeprefix("sha256:")).read_bytes()

    top = json.loads((tmp_path / "index.json").read_bytes())["manifests"][0]
    image = blob(top["digest"])
    document = json.loads(image)
    attestation = Attestation(image, "artifact")
    inner = encoded(index(entry(image, {}), attestation.entry))
    outer = encoded(index(descriptor(inner, OCI_INDEX)))
    with door(place) as client:
        for each in (document["config"], *document["layers"]):
            upload(client, place, blob(each["digest"]))
        for content in attestation.blobs:
            upload(client, place, content)
        for content, reference, media_type in (
            (image, digest(image), OCI_MANIFEST),
            (attestation.manifest, digest(attestation.manifest), OCI_MANIFEST),
            (inner, digest(inner), OCI_INDEX),
            (outer, "v1", OCI_INDEX),
        ):
            answer = client.put(
                f"/v2/{place.app}/manifests/{reference}",
                content=content,
                headers={"Content-Type": media_type},
            )
            assert answer.status_code == 201, answer.text
    (release,) = stage.developer.ask("GET", f"/apps/{place.app}/releases").json()["releases"]
    assert release["digest"] == digest(outer)
    assert [each["kind"] for each in release["attachments"]] == ["attestation"]
    run = stage.developer.submit(place.app, stage.export, arguments={"do": "summary"})
    stage.developer.wait(run, "SUCCESS")
