"""Remarks on files of an image that programs do not see, through layers, whiteouts and links."""

import pytest

from gridapps.oci import trees
from gridapps.oci.hidden_files import remarks_on
from tests.registry.test_trees import LARGE, file, folder, hard, index, link, refusal


def remarks(*layers: list[bytes]) -> str:
    return " ".join(remarks_on([index(*entries) for entries in layers]))


@pytest.mark.parametrize(
    "path",
    ["tmp/model.bin", "grid/x", "grid-scratch/a/b", "input/pointcloud.laz", "dev/shm/x", ".gridapps/x"],
)
def test_a_file_below_a_mounted_directory_is_named(path: str) -> None:
    assert f"'/{path}'" in remarks([folder("etc"), file(path)])


@pytest.mark.parametrize("path", ["opt/model.bin", "tmpx/a", "var/tmp/a", "home/tmp/a", "gridx", "dev/null2"])
def test_other_files_are_not_remarked(path: str) -> None:
    assert remarks([file(path)]) == ""


def test_empty_directories_are_not_remarked() -> None:
    assert remarks([folder("tmp"), folder("tmp/a")]) == ""


def test_large_files_and_links_are_named_too() -> None:
    said = remarks([file("tmp/a", LARGE), link("tmp/b", "../opt"), file("x"), hard("tmp/c", "x")])
    assert all(f"'/tmp/{name}'" in said for name in "abc")


@pytest.mark.parametrize("whiteout", ["tmp/.wh.a", ".wh.tmp", "tmp/.wh..wh..opq"])
def test_files_removed_by_a_later_layer_are_not_remarked(whiteout: str) -> None:
    """`RUN rm -rf /tmp/*` at the end of a build."""
    assert remarks([folder("tmp"), file("tmp/a")], [file(whiteout, b"")]) == ""
    assert "'/tmp/a'" in remarks([file("tmp/a")], [file(whiteout, b"")], [file("tmp/a")])


def test_removing_another_file_changes_nothing() -> None:
    assert "'/tmp/ab'" in remarks([file("tmp/ab")], [file("tmp/.wh.a", b"")])


def test_many_files_are_counted_and_bounded() -> None:
    said = remarks([file(f"tmp/{number}") for number in range(trees.MAX_HIDDEN + 500)])
    assert f"and {trees.MAX_HIDDEN - 3} more" in said
    assert len(said) < 400


def test_names_are_printable() -> None:
    assert remarks([file("tmp/\x1b[31m\u202e" + "n" * 200)]).isprintable()


def test_a_large_file_in_tmp_is_still_no_account_file() -> None:
    """A hard link from /etc would make an engine read it."""
    assert "etc/passwd" in refusal([file("tmp/a", LARGE), hard("etc/passwd", "tmp/a")])
