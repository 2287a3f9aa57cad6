"""A compromised developer registry: it sends nginx any response, and gains nothing by it.

It can spoil the images of developers. Shared images are in the other registry, images are pulled by digest,
and the registry has no data of users.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.attacks.scene import Victim, populate
from tests.attacks.tries import assert_held
from tests.attacks.wire import Wire
from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, new_instance

PROGRAM = Path(__file__).with_name("evil_registry.py")
REVEALED = "what only its owner reads"
Say = Callable[..., None]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The directory of the program, which the registry's account has to reach."""
    made = Path(tempfile.mkdtemp(prefix="evil-"))
    made.chmod(0o755)
    script = made / "docker-registry"
    script.write_text(f"#!{sys.executable} -I\n" + PROGRAM.read_text())
    script.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def taken(place: Path, engine: Engine) -> Iterator[tuple[Instance, dict[str, Victim]]]:
    """A running instance with that registry, and people in it."""
    instance = new_instance()
    instance.settings["PATH"] = f"{place}:{instance.environment['PATH']}"
    try:
        instance.start()
        people = populate(instance)
        people["dora"].create_app("roads")
        secret = instance.data / "outputs" / "00000000-0000-4000-8000-000000000000" / "0" / "1"
        secret.mkdir(parents=True)
        (secret / "log").write_text(REVEALED)
        for path in (secret / "log", secret, *secret.parents[:2]):
            path.chmod(0o755)  # readable by every account, so that only nginx's own rules protect it
        yield instance, people
    finally:
        instance.remove()


@pytest.fixture
def say(place: Path) -> Say:
    """Sets what the registry answers."""

    def change(*headers: tuple[str, str], body: str = "", echoes: bool = False) -> None:
        said = {"headers": headers, "body": body, "echoes": echoes}
        (place / "answer.json").write_text(json.dumps(said))

    return change


def ask(instance: Instance, dora: Victim, path: str, method: str = "GET") -> httpx.Response:
    context = Wire(instance, dora.certificate()).context()
    with httpx.Client(base_url=instance.url, verify=context, trust_env=False, timeout=30) as client:
        return client.request(method, path)


PLACES = ["/v2/", "/v2/roads/tags/list", "/v2/roads/manifests/v1", f"/v2/roads/blobs/sha256:{'0' * 64}"]


def test_it_sends_nginx_nowhere(taken: tuple[Instance, dict[str, Victim]], say: Say) -> None:
    """X-Accel-Redirect opens internal locations, so only the application may send it."""
    instance, people = taken
    targets = [
        "/internal/outputs/00000000-0000-4000-8000-000000000000/0/1/log",
        "/internal/authorize",
        "@refused",
        "/registry/token",
        "/login",
    ]

    def got_through(target: str) -> object:
        say(("X-Accel-Redirect", target), body="its own answer")
        for path in PLACES:
            answer = ask(instance, people["dora"], path)
            if answer.text != "its own answer" or "X-Registry-Authorization" in answer.headers:
                return path, answer.status_code, dict(answer.headers), answer.text
        return None

    assert_held(targets, got_through)


def test_it_sets_no_cookie_and_runs_no_script(taken: tuple[Instance, dict[str, Victim]], say: Say) -> None:
    """Its answers come from the same origin as the pages."""
    instance, people = taken
    say(
        ("Content-Type", "text/html"),
        ("Set-Cookie", "sessionid=theirs; Path=/"),
        ("Content-Security-Policy", "default-src *"),
        body="<script src=/v2/x></script>",
    )

    def got_through(path: str) -> object:
        headers = ask(instance, people["dora"], path).headers
        policies = headers.get_list("Content-Security-Policy")
        return ("Set-Cookie" in headers or policies != ["default-src 'none'; sandbox"]) and dict(headers)

    assert_held(PLACES, got_through)


def test_it_gets_no_credentials(taken: tuple[Instance, dict[str, Victim]], say: Say) -> None:
    """It gets no cookies and no API tokens. The token at the bare /v2/ is one for the registry itself."""
    instance, people = taken
    say(echoes=True)
    context = Wire(instance, people["dora"].certificate()).context()
    sent = {"Cookie": "sessionid=dora", "Authorization": f"Bearer {people['dora'].token}"}
    with httpx.Client(base_url=instance.url, verify=context, trust_env=False, timeout=30) as client:
        for path in PLACES:
            heard = client.get(path, headers=sent).text
            assert "Host: " in heard, "it tells what it was sent"
            assert "sessionid" not in heard, path
            assert people["dora"].token not in heard or path == "/v2/", path
