"""The synthetic city, made once for all tests of Apps."""

from pathlib import Path

import pytest

from demo import city


@pytest.fixture(scope="session")
def city_tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The four tiles of the city of seed 1, readable by the programs in containers."""
    directory = tmp_path_factory.mktemp("city")
    # pytest closes its directories to others; for a bind mount of the file its own mode is what counts.
    tiles = city.write(directory, seed=1)
    for tile in tiles:
        tile.chmod(0o644)
    return tiles
