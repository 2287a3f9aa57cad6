"""Certificates and pushes with each tool, and the messages when the registry refuses."""

import json
import os
import secrets
import shutil
import stat
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.conftest import DESCRIPTION, Bench, Shell, new_bench, new_shell
from tests.fixtures.engine import Engine
from tests.fixtures.instance import Instance, new_instance
from tests.fixtures.leftovers import address

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def elsewhere(engine: Engine, command_image: str) -> Iterator[Bench]:
    """An instance that is not on 127.0.0.0/8, where docker reads no certificates."""
    with address(f"10.99.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}") as name:
        instance = new_instance(host=name, listen=name)
        try:
            instance.start()
            yield new_bench(instance, command_image)
        finally:
            instance.remove()
            shutil.rmtree(Path("/etc/docker/certs.d") / instance.authority, ignore_errors=True)


def released(bench: Bench, tag: str) -> bool:
    shown = bench.shell.must("app", "show", bench.app, "--json").json
    return any(tag in release["tags"] and release["state"] == "valid" for release in shown["releases"])


def test_the_certificate_is_kept_for_its_owner_alone(bench: Bench):
    directory = bench.shell.home / "config" / "certs.d" / bench.shell.instance.authority
    assert {each.name for each in directory.iterdir()} == {"ca.crt", "client.cert", "client.key"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()} == {0o600}
    assert "this machine" in bench.shell.must("certificate", "list").out


def test_the_loopback_is_left_to_skopeo(bench: Bench):
    done = bench.shell.must("push", bench.image, f"{bench.app}:loopback", "--json")
    assert done.json["tool"] == "skopeo"
    assert done.json["release"]["state"] == "valid"
    assert "docker reads no certificates for registries on loopback addresses" in done.err
    assert released(bench, "loopback")


def test_docker(elsewhere: Bench):
    directory = Path("/etc/docker/certs.d") / elsewhere.shell.instance.authority
    done = elsewhere.shell.must("push", elsewhere.image, f"{elsewhere.app}:docker", "--json")
    assert done.json["tool"] == "docker"
    assert str(directory) in done.err
    assert {each.name for each in directory.iterdir()} == {"ca.crt", "client.cert", "client.key"}
    assert released(elsewhere, "docker")
    name = f"{elsewhere.shell.instance.authority}/{elsewhere.app}:docker"
    left = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False)
    assert left.returncode != 0, "the name that was made for the push is still there"
    # A new certificate replaces the old one.
    elsewhere.shell.must("certificate", "create", "another", "--replace")
    elsewhere.shell.must("push", elsewhere.image, f"{elsewhere.app}:docker2")
    kept = elsewhere.shell.home / "config" / "certs.d" / elsewhere.shell.instance.authority
    assert (directory / "client.cert").read_text() == (kept / "client.cert").read_text()
    beside = [each.name for each in directory.parent.iterdir() if each.name.startswith(".")]
    assert beside == []


def test_docker_leaves_what_is_not_of_this_client_alone(elsewhere: Bench):
    directory = Path("/etc/docker/certs.d") / elsewhere.shell.instance.authority
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "theirs.crt").write_text("theirs")
    try:
        done = elsewhere.shell.must("push", elsewhere.image, f"{elsewhere.app}:theirs", "--json")
        assert done.json["tool"] == "skopeo"
        assert "files of other programs" in done.err
        assert (directory / "theirs.crt").read_text() == "theirs"
    finally:
        shutil.rmtree(directory)


def test_podman(bench: Bench):
    name = f"localhost/gridapps-test-{uuid.uuid4().hex[:8]}:1"
    copied = ["skopeo", "--insecure-policy", "copy", "-q", f"docker-daemon:{bench.image}"]
    subprocess.run([*copied, f"containers-storage:{name}"], check=True, timeout=120)
    try:
        done = bench.shell.must("push", name, f"{bench.app}:podman", "--json")
        assert done.json["tool"] == "podman"
        assert released(bench, "podman")
        refused = bench.shell.run("push", name, "foreign-app:v1", "--with", "podman")
        assert refused.status == 1
    finally:
        subprocess.run(["podman", "image", "rm", name], check=True, capture_output=True, timeout=60)


def test_podman_under_the_name_of_docker(bench: Bench, tmp_path: Path):
    """As the package podman-docker installs it."""
    name = f"localhost/gridapps-test-{uuid.uuid4().hex[:8]}:1"
    copied = ["skopeo", "--insecure-policy", "copy", "-q", f"docker-daemon:{bench.image}"]
    subprocess.run([*copied, f"containers-storage:{name}"], check=True, timeout=120)
    (tmp_path / "docker").write_text('#!/bin/sh\nexec podman "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    shell = replace(bench.shell, variables={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    try:
        chosen = shell.must("push", name, f"{bench.app}:podman-docker", "--json")
        assert chosen.json["tool"] == "podman"
        saved = shell.must("push", name, f"{bench.app}:podman-docker", "--with", "skopeo", "--json")
        assert "$ docker save -o " in saved.err
        assert saved.json["release"]["state"] == "valid"
    finally:
        subprocess.run(["podman", "image", "rm", name], check=True, capture_output=True, timeout=60)


def test_the_engine_of_a_docker_context(bench: Bench, tmp_path: Path):
    # The engine is reached at another address than the default one, which only the context knows.
    (tmp_path / "engine.sock").symlink_to("/var/run/docker.sock")
    variables = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    shell = replace(bench.shell, variables=variables)
    for words in (
        ("create", "elsewhere", "--docker", f"host=unix://{tmp_path}/engine.sock"),
        ("use", "elsewhere"),
    ):
        command = ["docker", "context", *words]
        subprocess.run(command, env=shell.environment, check=True, capture_output=True, timeout=60)
    done = shell.must("push", bench.image, f"{bench.app}:context", "--json")
    assert done.json["tool"] == "skopeo"
    assert "docker-daemon:" not in done.err, "skopeo knows no contexts"
    archive = done.err.partition("$ docker save -o ")[2].split()[0]
    assert not Path(archive).parent.exists()
    # An engine on another machine reads no certificates of this one.
    there = ["docker", "context", "create", "there", "--docker", "host=tcp://192.0.2.1:2376"]
    subprocess.run(there, env=shell.environment, check=True, capture_output=True, timeout=60)
    remote = replace(shell, variables={**variables, "DOCKER_CONTEXT": "there"})
    refused = remote.run(
        "push", f"docker.invalid/{uuid.uuid4().hex}:1", f"{bench.app}:there", "--with", "docker"
    )
    assert refused.status == 1
    assert "The docker engine is on another machine" in refused.err


def test_an_archive(bench: Bench):
    archive = bench.shell.home / "image.tar"
    subprocess.run(["docker", "save", "-o", str(archive), bench.image], check=True, timeout=120)
    done = bench.shell.must("push", f"docker-archive:{archive}", f"{bench.app}:archive", "--json")
    assert done.json["tool"] == "skopeo"
    assert released(bench, "archive")


@pytest.mark.parametrize("tool", ["docker", "skopeo"])
def test_refusals_reach_the_user(elsewhere: Bench, engine: Engine, tool: str):
    bare = engine.image(entrypoint=None)
    done = elsewhere.shell.run("push", bare, f"{elsewhere.app}:bare", "--with", tool)
    assert (done.status, done.out) == (1, "")
    sentence = done.err.splitlines()[-1]
    assert sentence.startswith("gridapps: The registry refused the image: ")
    assert "ENTRYPOINT" in sentence
    assert not released(elsewhere, "bare")


@pytest.mark.parametrize("tool", ["docker", "skopeo"])
def test_a_revoked_certificate(elsewhere: Bench, tool: str):
    shell = new_shell(elsewhere.shell.instance, "revoked", developer=True)
    shell.login()
    app = f"app-{uuid.uuid4().hex[:8]}"
    (shell.home / "app.json").write_text(json.dumps({"id": app, **DESCRIPTION}))
    shell.must("app", "create", "app.json")
    assert "gridapps certificate create" in shell.run("push", elsewhere.image, app).err
    serial = shell.must("certificate", "create", "old", "--json").json["certificate"]["serial"]
    # Revoked from another machine: this one still has it.
    with shell.instance.client(shell.token) as client:
        assert client.delete(f"/api/v3/developer/certificates/{serial}").status_code == 204
    done = shell.run("push", elsewhere.image, f"{app}:v1", "--with", tool)
    assert done.status == 1
    assert "revoked" in done.err.splitlines()[-1]
    assert "this machine" in shell.must("certificate", "list").out
    shell.must("certificate", "revoke", serial)
    assert "gridapps certificate create" in shell.run("push", elsewhere.image, app).err
    subprocess.run(["rm", "-rf", f"/etc/docker/certs.d/{shell.instance.authority}"], check=True)


def test_no_such_app_and_no_such_image(bench: Bench, outsider: Shell):
    assert "no-such-app" in bench.shell.run("push", bench.image, "no-such-app:v1").err
    done = bench.shell.run("push", "no-such-image:1", f"{bench.app}:v9")
    assert done.status == 1
    assert "build it first" in done.err
    assert outsider.run("push", bench.image, f"{bench.app}:v1").status == 1


def test_apps(bench: Bench):
    shell, app = bench.shell, f"app-{uuid.uuid4().hex[:8]}"
    made = shell.must(
        "app", "create", app, "--title", "First", "--memory", "64M", "--time", "2m", "--json"
    ).json
    assert made["apps"][0]["resources"]["memory"] == 64 * 1024**2
    changed = shell.must("app", "update", app, "--title", "Second", "--cpus", "0.5", "--json").json["apps"][0]
    assert (changed["title"], changed["resources"]["cpus"]) == ("Second", 0.5)
    assert changed["resources"]["time"] == 120
    assert app in shell.must("app", "list", "--mine").out
    assert "Second" in shell.must("app", "show", app).out
    taken = shell.run("app", "create", app)
    assert taken.status == 1
    assert "taken" in taken.err
    assert shell.run("app", "delete", app).status == 2
    shell.must("app", "delete", app, "--yes")
    assert shell.run("app", "show", app).status == 1


def test_the_arguments_of_an_app_are_shown(bench: Bench, instance: Instance):
    shown = bench.shell.must("app", "show", bench.app).out
    assert "seconds" in shown
    assert "integer" in shown
    assert f"{instance.authority}/{bench.app}" in shown
