"""A storage outside the data directory, such as a file server that every node mounts."""

import os

import pytest

from gridapps.access.models import User
from gridapps.exports import operations, stored_files
from gridapps.server import creation
from gridapps.server.accounts import Accounts
from gridapps.server.instance import Unusable
from gridapps.storage import directory
from gridapps.storage.interface import StorageUnavailable
from tests.fixtures.instance import new_instance
from tests.fixtures.pointclouds import write_pointcloud

NO_ACCOUNTS = Accounts({}, {})


@pytest.fixture
def shared(tmp_path, settings):
    settings.DATA, settings.STORAGE = tmp_path / "data", str(tmp_path / "shared")
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


@pytest.mark.django_db
def test_exports_lie_there_and_nowhere_else(shared, tmp_path):
    creation._make_shared(shared, NO_ACCOUNTS)
    user = User.objects.create(username="analyst")
    export = operations.import_export(owner=user, name="city", files=[write_pointcloud(tmp_path / "a.laz")])
    file = export.files.get()
    assert stored_files.verified(file).is_relative_to(shared / "exports")
    assert not (tmp_path / "data").exists()


@pytest.mark.django_db
def test_a_file_system_that_is_not_mounted_is_no_fault_of_the_file(shared, tmp_path):
    creation._make_shared(shared, NO_ACCOUNTS)
    user = User.objects.create(username="analyst")
    export = operations.import_export(owner=user, name="city", files=[write_pointcloud(tmp_path / "a.laz")])
    (shared / "exports").rename(tmp_path / "away")
    with pytest.raises(StorageUnavailable, match="not mounted"):
        stored_files.verified(export.files.get())
    with pytest.raises(Unusable, match="mount the storage"):
        creation._make_shared(shared, NO_ACCOUNTS)
    (tmp_path / "away").rename(shared / "exports")
    assert stored_files.verified(export.files.get()).is_file()


@pytest.mark.django_db
def test_the_storages_own_directory_is_never_made(tmp_path):
    with pytest.raises(Unusable, match="cannot be used"):
        creation._make_shared(tmp_path / "nothing", NO_ACCOUNTS)


def test_settled_is_every_file_and_directory(tmp_path, monkeypatch):
    (tmp_path / "top" / "sub").mkdir(parents=True)
    (tmp_path / "top" / "a").write_bytes(b"a")
    (tmp_path / "top" / "sub" / "b").write_bytes(b"b")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(os.fstat(file).st_ino))
    directory.settle(tmp_path / "top")
    paths = [tmp_path, *(path for path in tmp_path.rglob("*"))]
    assert synced == {path.stat().st_ino for path in paths}


@pytest.mark.system
def test_an_instance_takes_the_shared_directory_as_its_own(tmp_path):
    (tmp_path / "shared").mkdir()
    instance = new_instance(storage=tmp_path / "shared")
    try:
        instance.run_server_command("init")
        instance.run_server_command("user", "create", "analyst")
        cloud = write_pointcloud(tmp_path / "a.laz")
        instance.run_server_command("import", str(cloud), "--owner", "analyst", "--name", "city")
        assert {path.name for path in (tmp_path / "shared").iterdir()} == {"exports", "outputs"}
        assert not {"exports", "outputs"} & {path.name for path in instance.data.iterdir()}
        # The group cannot write, and others have no rights.
        assert not (tmp_path / "shared" / "exports").stat().st_mode & 0o027
        (tmp_path / "shared" / "exports").rename(tmp_path / "away")
        refused = instance.run_server_command("user", "create", "other", check=False)
        assert "mount the storage" in refused
    finally:
        instance.remove()
