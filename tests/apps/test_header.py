"""The smallest App does what its README says."""

import json

import pytest

pytestmark = pytest.mark.service


def test_the_header_is_read(header_image, run_app, city_tiles):
    ended = run_app(header_image, city_tiles[0], {})
    found = json.loads((ended.outputs / "header.json").read_text())
    assert ended.exit_code == 0
    assert (found["version"], found["point_format"]) == ("1.4", 6)
    assert f"{found['points']} points" in ended.log
    assert found["points"] > 500_000


def test_an_argument_changes_the_result(header_image, run_app, city_tiles):
    ended = run_app(header_image, city_tiles[0], {"points": False})
    assert "points" not in json.loads((ended.outputs / "header.json").read_text())


def test_another_file_is_refused(header_image, run_app, tmp_path):
    page = tmp_path / "page.laz"
    page.write_text("<html>")
    page.chmod(0o644)
    ended = run_app(header_image, page, {})
    assert ended.exit_code == 1
    assert "no LAS or LAZ file" in ended.log
