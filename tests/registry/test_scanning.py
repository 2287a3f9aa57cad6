"""The operator's scanner, as a real command: its verdict decides, and what it does hurts nothing."""

import contextlib
import json
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from gridapps.access.models import AccessTag
from gridapps.audit.models import Entry
from gridapps.oci.manifests import OCI_MANIFEST
from gridapps.pki.tokens import Registry
from gridapps.promotion import promoting, scanner, scanning
from gridapps.promotion.scanner import Scanner
from gridapps.pushes import references
from gridapps.pushes.registry_client import Unavailable
from gridapps.registry import sharing
from gridapps.registry.models import Share
from tests.fixtures.cast import Cast
from tests.registry.built import Image, digest, layer
from tests.registry.conftest import Developer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("both_registries")]
SetScanner = Callable[..., None]


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Path:
    """A data directory of the test's own."""
    settings.DATA = tmp_path
    return tmp_path


@pytest.fixture
def set_scanner(data: Path, set_limits: Callable[..., None]) -> Iterator[SetScanner]:
    """Makes a shell script, or any other command, the scanner, and runs the part in a thread."""
    with contextlib.ExitStack() as running:

        def make(script: str = "", *, command: str = "", timeout: float = 20) -> None:
            running.close()
            words = command or shlex.join(["sh", "-c", script, "scanner"])
            set_limits(scanner=words)
            running.enter_context(serving(Scanner(data, command=words, timeout=timeout), data))

        yield make


@contextlib.contextmanager
def serving(part: Scanner, data: Path) -> Iterator[None]:
    """Answers requests in a thread."""
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            part.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(data / scanning.SOCKET))
        thread.join()
        part.close()


@pytest.fixture
def image() -> Image:
    return Image(layers=[layer(content=secrets.token_bytes(1000))])


@pytest.fixture
def share(developer: Developer, cast: Cast, image: Image, data: Path) -> Share:
    """A share of a release that no other test has pushed, still to be copied."""
    developer.upload(*image.blobs)
    assert developer.push(image.manifest).status_code == 201
    AccessTag.objects.get_or_create(name="city")
    made, _ = sharing.share(
        by=cast.administrator, app_id=developer.name, release=digest(image.manifest), access_tag="city"
    )
    return made


def promoted(share: Share, data: Path) -> tuple[str, str]:
    """State and reason after the promotion; nothing is left of the image beside the registries."""
    assert promoting.promote(share) is (Share.objects.get(pk=share.pk).state == "active")
    share.refresh_from_db()
    assert list((data / "scans").iterdir()) == []
    assert {path.name for path in (data / "scanner").iterdir()} == {"home"}
    return share.state, share.reason


def test_accepted_release_is_shared_with_the_verdict(
    share: Share, set_scanner: SetScanner, data: Path
) -> None:
    set_scanner("echo looked at $1; test -f $1/oci-layout && test -f $1/index.json && echo nothing found")
    assert promoted(share, data) == ("active", "")
    assert share.scan == "looked at .../image\nnothing found"
    assert share.scanned_at is not None
    entry = Entry.objects.get(event="share.scanned")
    assert (entry.subject, entry.details["passed"]) == (f"share:{share.pk}", True)


def test_refusal_of_the_scanner_fails_the_share_with_its_output(
    share: Share, set_scanner: SetScanner, data: Path
) -> None:
    set_scanner("echo CVE-2026-1 CRITICAL; echo CVE-2026-2 HIGH >&2; exit 3")
    state, reason = promoted(share, data)
    assert (state, reason) == (
        "failed", "The scanner refused the release (exit status 3): CVE-2026-1 CRITICAL / CVE-2026-2 HIGH",
    )  # fmt: skip
    assert share.scan == "CVE-2026-1 CRITICAL\nCVE-2026-2 HIGH"
    assert Entry.objects.get(event="share.scanned").details["passed"] is False


def test_it_gets_the_image_as_other_tools_read_it(
    share: Share, image: Image, set_scanner: SetScanner, data: Path
) -> None:
    """skopeo reads the same layout, and what it reads is the image, to the byte."""
    out = data / "copy"
    command = f"skopeo --insecure-policy copy --preserve-digests oci:{{}} dir:{out}"
    set_scanner(command=command)
    assert promoted(share, data) == ("active", ""), share.scan
    assert (out / "manifest.json").read_bytes() == image.manifest
    assert (out / digest(image.layers[0]).removeprefix("sha256:")).read_bytes() == image.layers[0]


def test_it_learns_nothing_of_the_instance(
    share: Share, set_scanner: SetScanner, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setenv("GRIDAPPS_METRICS_TOKEN", "secret-of-the-operator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-operator")
    set_scanner(f"env; pwd; {sys.executable} -c 'import os; print(os.listdir(\"/proc/self/fd\"))'")
    assert promoted(share, data)[0] == "active"
    names = {line.partition("=")[0] for line in share.scan.splitlines() if "=" in line}
    assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
    assert "secret-of-the-operator" not in share.scan
    assert str(data / "scanner" / "home") in share.scan
    open_files = share.scan.splitlines()[-1].count("'") // 2
    assert open_files <= 5, "its own three, the lock that ends it, and the directory that is listed"


def test_end_of_the_scanners_output_is_kept_as_plain_text(
    share: Share, set_scanner: SetScanner, data: Path
) -> None:
    set_scanner(
        r"""printf 'a\033[31mred\033[0m\033]0;title\007\000b\r\n\342\200\256evil\377\n'; """
        r"""printf '<script>alert(1)</script>\n'; exit 1"""
    )
    _, reason = promoted(share, data)
    assert "ared b" in reason
    assert "\x1b" not in share.scan + reason
    assert all(line.isprintable() for line in share.scan.splitlines())
    assert "\u202e" not in share.scan
    assert reason.isprintable()


def test_a_flood_of_output_is_read_and_dropped(share: Share, set_scanner: SetScanner, data: Path) -> None:
    set_scanner("head -c 200000000 /dev/zero | tr '\\0' 'x'; echo; echo the end; exit 1")
    state, reason = promoted(share, data)
    assert state == "failed"
    assert reason.endswith("the end")
    assert len(share.scan) < scanner.KEPT_BYTES


@pytest.mark.parametrize(
    "script",
    ["sleep 60", "exec >&- 2>&-; sleep 60", "trap '' TERM INT HUP; while :; do sleep 1; done", "yes"],
)
def test_scanner_that_never_ends_is_killed(
    share: Share, set_scanner: SetScanner, script: str, data: Path
) -> None:
    set_scanner(script, timeout=1)
    began = time.monotonic()
    state, reason = promoted(share, data)
    assert (state, reason) == ("failed", "The scanner did not end within 1 seconds.")
    assert time.monotonic() - began < 50


def alive(marker: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", marker], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_processes_of_the_scanner_end_with_it(share: Share, set_scanner: SetScanner, data: Path) -> None:
    """A child that keeps the output open, in the scanner's group or in a session of its own."""
    marker = f"31{secrets.randbelow(10**6):06}"
    set_scanner(f"sleep {marker} & setsid sleep {marker} & echo done")
    began = time.monotonic()
    assert promoted(share, data)[0] == "active"
    assert share.scan == "done"
    assert time.monotonic() - began < 50
    end = time.monotonic() + 5
    while alive(f"sleep {marker}"):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program --fast", "The scanner no-such-program cannot be started: No such file"),
        ("/etc/passwd", "The scanner /etc/passwd cannot be started: Permission denied"),
        ("sh -c 'kill -9 $$'", "The scanner refused the release (exit status -9): it printed nothing"),
    ],
)
def test_one_that_cannot_say_yes_says_no(
    share: Share, set_scanner: SetScanner, command: str, words: str, data: Path
) -> None:
    set_scanner(command=command)
    state, reason = promoted(share, data)
    assert state == "failed"
    assert reason.startswith(words)


def test_a_disk_that_is_full(
    share: Share, set_scanner: SetScanner, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setattr(scanning, "SPARE", 2**60)
    set_scanner("exit 0")
    state, reason = promoted(share, data)
    assert (state, "have to stay free" in reason) == ("failed", True)


@pytest.mark.parametrize("why", ["revoked", "stopping"])
def test_a_scan_that_nobody_waits_for_is_given_up(
    share: Share, set_scanner: SetScanner, cast: Cast, why: str
) -> None:
    set_scanner("sleep 60")
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        reason = Share.objects.get(pk=share.pk).reason
        assert reason == "The scanner examines the release."
        if why == "revoked":
            sharing.revoke(by=cast.administrator, app_id=share.app.app_id, pk=share.pk)
        return why == "stopping"

    began = time.monotonic()
    assert not promoting.promote(share, stopping=stopping)
    assert time.monotonic() - began < 50
    share.refresh_from_db()
    assert (share.state, asked) == ("revoked" if why == "revoked" else "copying", 1)
    assert share.scanned_at is None
    set_scanner("exit 0")
    assert promoting.promote(share) is (why == "stopping")


def test_what_a_killed_promoter_left_goes(data: Path) -> None:
    """Images, and working directories with what still runs there; not what the scanner keeps for itself."""
    root = data / "scanner"
    (root / "home").mkdir(parents=True)
    (root / "home" / "vulnerabilities.db").write_text("kept")
    left = root / "share-1-abc"
    (left / "image").mkdir(parents=True)
    with (left / "held").open("w") as held:
        process = subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()], start_new_session=True)
    (data / "scans" / "share-1-abc" / "image").mkdir(parents=True)
    scanner.remove_leftovers(root)
    scanning.remove_leftovers(data)
    assert list((data / "scans").iterdir()) == []
    assert process.wait(10) == -signal.SIGKILL
    assert [path.relative_to(root) for path in root.rglob("*")] == [
        Path("home"), Path("home/vulnerabilities.db"),
    ]  # fmt: skip
    scanning.remove_leftovers(data / "absent")


@pytest.mark.parametrize("answer", [None, b"", b'{"output": "cut o', b"[]"])
def test_without_a_verdict_the_share_waits(
    share: Share, set_limits: Callable[..., None], data: Path, answer: bytes | None
) -> None:
    """The part is not there, ends during the scan, or sends what is no verdict."""
    set_limits(scanner="true")
    address = data / scanning.SOCKET
    address.parent.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def reply() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(128)
            connection.sendall(answer or b"")

    with listener, ThreadPoolExecutor() as pool:
        if answer is not None:
            listener.bind(str(address))
            listener.listen()
            pool.submit(reply)
        with pytest.raises(Unavailable, match=r"The scanner does not answer\."):
            promoting.promote(share)
    share.refresh_from_db()
    assert (share.state, list((data / "scans").iterdir())) == ("copying", [])


@pytest.mark.parametrize("asked", [b"../../etc\n", b"/etc\n", b"x" * 128, b"\n", b"no-end"])
def test_only_names_of_images_are_scanned(set_scanner: SetScanner, data: Path, asked: bytes) -> None:
    set_scanner(f"touch {data}/started")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(data / scanning.SOCKET))
        connection.sendall(asked)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert not (data / "started").exists()


def test_an_index_is_laid_out_whole_and_attachments_are_not_scanned(
    share: Share, set_scanner: SetScanner, data: Path
) -> None:
    set_scanner(f"cp -r $1 {data}/copy")
    assert promoted(share, data)[0] == "active"
    index = json.loads((data / "copy" / "index.json").read_text())
    assert index["manifests"] == [
        {"mediaType": OCI_MANIFEST, "digest": share.release.digest,
         "size": (data / "copy/blobs/sha256" / share.release.digest[7:]).stat().st_size},
    ]  # fmt: skip
    assert len(list((data / "copy/blobs/sha256").iterdir())) == 3


def test_without_a_scanner_nothing_is_laid_out(share: Share, data: Path) -> None:
    assert settings.GRIDAPPS.scanner == ""
    assert promoting.promote(share)
    share.refresh_from_db()
    assert (share.scanned_at, share.scan) == (None, "")
    assert not (data / "scans").exists()
    with references.repository_of(share.app, Registry.TRUSTED) as repository:
        assert repository.manifest(share.release.digest, media_type=OCI_MANIFEST, limit=9)


PART = """
import sys
from pathlib import Path
from gridapps.promotion.scanner import Scanner
Scanner(Path(sys.argv[1]), command=sys.argv[2], timeout=20).run()
"""
# A daemon that closes all files, in a session of its own. It replaces the socket if asked to.
DAEMON = """
import os, sys, time
if not os.fork():
    os.setsid()
    if not os.fork():
        os.closerange(0, 256)
        if sys.argv[1] == "replace":
            os.unlink(sys.argv[2])
            open(sys.argv[2], "w").close()
        open(sys.argv[3], "w").close()
        time.sleep(1000)
os._exit(0)
"""


@pytest.mark.parametrize("what", ["stay", "replace"])
def test_a_daemon_that_an_image_started_ends_with_the_scan(data: Path, what: str) -> None:
    """It must answer no later scan. A part whose socket it took ends, and the supervisor starts it again."""
    started = data / f"started-{secrets.token_hex(8)}"
    words = [sys.executable, "-c", DAEMON, what, str(data / scanning.SOCKET), str(started)]
    command = shlex.join(["sh", "-c", f"{shlex.join(words)}; until [ -e {started} ]; do sleep 0.1; done"])
    part = subprocess.Popen([sys.executable, "-c", PART, data, command])
    try:
        while not (data / scanning.SOCKET).exists():
            assert part.poll() is None
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            while asking.connect_ex(str(data / scanning.SOCKET)):
                time.sleep(0.05)
            asking.sendall(b"share-1-abc\n")
            assert b"output" in asking.recv(4096)
        end = time.monotonic() + 60
        while set(alive(started.name)) - {str(part.pid)}:
            assert time.monotonic() < end
            time.sleep(0.05)
        if what == "replace":
            part.wait(60)
    finally:
        part.terminate()
        part.wait()
