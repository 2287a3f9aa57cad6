"""The stored configuration is readable by its owner only, and written atomically."""

import os
import stat
from pathlib import Path

import pytest
from gridapps_client import GridAppsError, Unauthenticated
from gridapps_client.configuration import Configuration, Instance, replace_directory

URL = "https://grid.example.org:5443"


def test_only_the_owner_may_read(home: Path) -> None:
    configuration = Configuration()
    configuration.save(Instance(url=URL, token="secret"), default=True)
    configuration.keep_authority(URL, "pem")
    configuration.keep_certificate(URL, ca="a", certificate="b", key="c")
    found = [home, *home.rglob("*")]
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_file()} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in found if each.is_dir()} == {0o700}
    names = {each.name for each in found if each.is_file()}
    assert names == {"config.json", "ca.crt", "client.cert", "client.key"}


def test_what_others_may_read_is_not_used() -> None:
    configuration = Configuration()
    configuration.save(Instance(url=URL, token="secret"))
    configuration.path.chmod(0o644)
    with pytest.raises(GridAppsError, match="chmod 600"):
        configuration.instance(URL)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"default": 1, "instances": {}}', "[" * 100_000])
def test_damaged(content: str, home: Path) -> None:
    home.mkdir(parents=True)
    path = home / "config.json"
    path.touch(mode=0o600)
    path.write_text(content)
    with pytest.raises(GridAppsError, match="damaged"):
        Configuration().instance(URL)


def test_several_instances() -> None:
    configuration = Configuration()
    with pytest.raises(Unauthenticated, match="gridapps login"):
        configuration.instance()
    configuration.save(Instance(url=URL, token="one"), default=True)
    configuration.save(Instance(url="https://other", token="two"))
    assert Configuration().instance().token == "one"
    assert Configuration().instance("other:443").token == "two"
    configuration.forget(URL)
    with pytest.raises(Unauthenticated):
        configuration.instance()
    assert configuration.instance("https://other").token == "two"


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = Configuration()
    configuration.save(Instance(url=URL, token="stored", refresh_token="r", ca="/ca"), default=True)
    monkeypatch.setenv("GRIDAPPS_TOKEN", "given")
    assert configuration.instance() == Instance(url=URL, token="given", ca="/ca")
    monkeypatch.setenv("GRIDAPPS_URL", "https://other")
    monkeypatch.setenv("GRIDAPPS_CA", "/other")
    assert configuration.instance() == Instance(url="https://other", token="given", ca="/other")
    # The token belongs to the instance of GRIDAPPS_URL and is sent to no other.
    assert configuration.instance(URL).token == "stored"
    assert configuration.instance("https://third").token is None


def test_a_directory_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "host:1"
    replace_directory(target, {"ca.crt": "1", "old": "1"})
    replace_directory(target, {"ca.crt": "2", "new": "2"})
    assert {each.name: each.read_text() for each in target.iterdir()} == {"ca.crt": "2", "new": "2"}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GridAppsError, match="No space left"):
        replace_directory(target, {"ca.crt": "3"})
    assert {each.name: each.read_text() for each in target.iterdir()} == {"ca.crt": "2", "new": "2"}
    assert [each.name for each in tmp_path.iterdir() if each.name != "config"] == ["host:1"]
