"""A developer of a running instance, and an HTTP client that holds the certificate."""

import ssl
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.fixtures.instance import Instance
from tests.fixtures.people import Person
from tests.registry.built import digest


@dataclass
class Place:
    """A running instance that takes small images, with a developer in it who owns the App `app`."""

    instance: Instance
    developer: Person
    app: str

    @property
    def repository(self) -> str:
        return f"{self.instance.authority}/{self.app}"

    def states(self, tag: str) -> list[str]:
        """The states of releases with this tag."""
        releases = self.developer.ask("GET", f"/apps/{self.app}/releases").json()["releases"]
        return [release["state"] for release in releases if tag in release["tags"]]

    def issue(self) -> tuple[Path, str]:
        """A new certificate of the developer, and its serial."""
        issued = self.developer.ask(
            "POST", "/developer/certificates", expect=201, json={"name": "new"}
        ).json()
        files = {"ca.crt": issued["ca"], "client.cert": issued["pem"], "client.key": issued["key"]}
        return directory(files), issued["certificate"]["serial"]


def new_place(instance: Instance) -> Place:
    name = f"developer-{uuid.uuid4().hex[:6]}"
    person = Person(instance, name, instance.user(name, developer=True), Path(tempfile.mkdtemp()))
    app = f"app-{uuid.uuid4().hex[:8]}"
    person.create_app(app)
    return Place(instance, person, app)


def directory(files: dict[str, str]) -> Path:
    """A directory of certificates, as each tool takes it."""
    made = Path(tempfile.mkdtemp(prefix="certs-"))
    for name, text in files.items():
        (made / name).write_text(text)
    return made


def context(place: Place, *, certificate: bool = True) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(place.instance.ca))
    if certificate:
        files = place.developer.certificate()
        made.load_cert_chain(files / "client.cert", files / "client.key")
    return made


@contextmanager
def door(place: Place, *, certificate: bool = True) -> Iterator[httpx.Client]:
    """An HTTP client with or without the developer's certificate."""
    verify = context(place, certificate=certificate)
    with httpx.Client(base_url=place.instance.url, verify=verify, trust_env=False, timeout=30) as client:
        yield client


def upload(client: httpx.Client, place: Place, blob: bytes) -> None:
    begun = client.post(f"/v2/{place.app}/blobs/uploads/")
    assert begun.status_code == 202, begun.text
    there = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest(blob)})
    done = client.put(there, content=blob)
    assert done.status_code == 201, done.text
