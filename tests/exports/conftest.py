"""Point clouds for the tests of exports: small generated ones, and the shared ones if they are present."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest

from gridapps.access.models import User
from gridapps.exports import receiving
from gridapps.exports.models import ExportUpload
from gridapps.exports.receiving import Announced
from tests.exports.sending import Begin

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

MakeCloud = Callable[..., Path]


@pytest.fixture
def shared() -> Path:
    """The folder of shared point clouds."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared point clouds are absent ({SHARED.parent.name}/{SHARED.name})")
    return SHARED


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create(username="analyst")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, settings: Any) -> Path:
    """A data directory on the same disk as the point clouds of the test."""
    directory = settings.DATA = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def make_cloud(tmp_path: Path) -> MakeCloud:
    """Write a LAS or LAZ file of random points in a box of 100 x 50 x 10 at (1000, 2000, 30)."""

    def make(
        name: str = "cloud.laz", *, points: int = 1000, version: str = "1.4", point_format: int = 6
    ) -> Path:
        header = laspy.LasHeader(version=version, point_format=point_format)
        header.scales, header.offsets = [0.01] * 3, [1000, 2000, 30]
        cloud = laspy.LasData(header)
        spots = np.random.default_rng(1).random((points, 3)) * [100, 50, 10] + [1000, 2000, 30]
        cloud.x, cloud.y, cloud.z = spots.T
        path = tmp_path / name
        cloud.write(path)
        path.chmod(0o644)
        return path

    return make


@pytest.fixture
def begin(owner: User, data: Path) -> Begin:
    """Begin an upload of files of these sizes."""
    (data / "incoming").mkdir()
    (data / "exports").mkdir(exist_ok=True)

    def make(*sizes: int, by: User = owner, skip_bad: bool = False, **sha256: str) -> ExportUpload:
        files = [
            Announced(name=f"{index}.laz", size=size, sha256=sha256.get(f"f{index}", ""))
            for index, size in enumerate(sizes)
        ]
        return receiving.begin(by=by, name="city", files=files, skip_bad=skip_bad)

    return make
