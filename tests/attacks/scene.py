"""The scene for all attackers: a running instance with users, a shared App, and a run of it.

| who | is | has |
|---|---|---|
| `admin` | administrator | |
| `dora` | developer | the App `app` with the release `release`, shared with the tag; a certificate |
| `erik` | developer | the App `other_app` with a release of other content; a certificate |
| `ann` | user who holds the tag | the export `export`, the finished run `run` with output and log |
| `tom` | user who holds the tag | an export of his own |
| `otto` | user | nothing |
"""

import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.attacks.wire import Wire
from tests.fixtures.instance import Instance
from tests.fixtures.people import Person

TAG = "surveyors"
ROLES: dict[str, list[str]] = {
    "admin": ["administrator"],
    "dora": ["developer"],
    "erik": ["developer"],
    "ann": [f"tag:{TAG}"],
    "tom": [f"tag:{TAG}"],
    "otto": [],
}
POPULATE = Path(__file__).with_name("populate.py")


@dataclass
class Victim(Person):
    """A person with a password, who can log in with a browser."""

    password: str = field(default="", repr=False)
    _cookies: httpx.Cookies = field(default_factory=httpx.Cookies, repr=False)

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """An HTTP client with a session. The form is used only once, because logins are limited."""
        with self.instance.client() as client:
            client.headers["Referer"] = f"{self.instance.url}/"
            if not self._cookies:
                client.get("/login")
                fields = {"username": self.name, "password": self.password}
                answer = client.post("/login", data={**fields, **csrf(client)})
                assert answer.status_code == 302, answer.text[:500]
                self._cookies = client.cookies
            client.cookies = httpx.Cookies(self._cookies)
            yield client


def csrf(browser: httpx.Client) -> dict[str, str]:
    """The CSRF field of a form."""
    return {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}


@dataclass(frozen=True)
class Scene:
    """A running instance and the people in it. Each person is an attribute of that name in `people`."""

    instance: Instance
    people: dict[str, Victim]
    app: str
    release: str  # digest
    share: str  # key
    other_app: str
    other_release: str  # digest
    export: str  # key, ann's
    run: str  # id, ann's

    def __getattr__(self, name: str) -> Victim:
        try:
            return self.people[name]
        except KeyError:
            raise AttributeError(name) from None

    def wire(self, name: str = "") -> Wire:
        """The TLS port, for raw bytes; with the certificate of a person, if one is named."""
        return Wire(self.instance, self.people[name].certificate() if name else None)

    def alive(self) -> bool:
        """Whether every part still runs and the API answers, as it must after each attack."""
        return self.instance.running and self.instance.answers()


def populate(instance: Instance) -> dict[str, Victim]:
    """Create the users in a running instance."""
    done = subprocess.run(
        [sys.executable, str(POPULATE)], env=instance.environment, input=json.dumps(ROLES),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {
        name: Victim(
            instance, name, made["token"], Path(tempfile.mkdtemp(prefix=name)), password=made["password"]
        )
        for name, made in json.loads(done.stdout).items()
    }


def set_scene(instance: Instance, people: dict[str, Victim], *, image: str, other: str, file: Path) -> Scene:
    """Create Apps, a share, exports and a finished run."""
    dora, erik, ann, tom = (people[name] for name in ("dora", "erik", "ann", "tom"))
    app, other_app = f"app-{uuid.uuid4().hex[:8]}", f"app-{uuid.uuid4().hex[:8]}"
    dora.create_app(app)
    erik.create_app(other_app)
    release, other_release = dora.push(image, app), erik.push(other, other_app)
    shared = people["admin"].ask(
        "POST", f"/apps/{app}/shares", expect=202, json={"access_tag": TAG, "release": "v1"}
    )
    share = str(shared.json()["shares"][0]["pk"])
    export = instance.import_export(file, owner=ann.name)
    instance.import_export(file, owner=tom.name)
    instance.wait_until(
        lambda: (
            people["admin"].ask("GET", f"/apps/{app}/shares/{share}").json()["shares"][0]["state"] == "active"
        ),
        what="shared",
    )
    run = ann.submit(app, export, arguments={"do": "summary"})
    ann.wait(run, "SUCCESS")
    return Scene(instance, people, app, release, share, other_app, other_release, export, run)
