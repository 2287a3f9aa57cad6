"""Layers that a push accepts, unpacked by a real engine: the tree is as judged, and no larger.

The engine is a separate one with a memory limit.
"""

import hashlib
import io
import json
import os
import stat
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
from hypothesis import given

from gridapps.oci.archives import EntryKind, TarEntry, tar_entries
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_contents import examine_layer
from gridapps.oci.layer_tree import TooLarge
from tests.fixtures.engine import Engine
from tests.fixtures.own_engine import OwnEngine
from tests.fuzz.archives import archives
from tests.fuzz.conftest import SOAK, fuzzing
from tests.registry.tars import END, entry, extended, header, long_name, record, records

MIB = 1024**2
BATCH = 100  # layers of one image
CGROUPS = Path("/sys/fs/cgroup/memory")
Tree = dict[bytes, tuple[str, int | bytes]]  # by path: kind, and size or target
ZERO = header(b"dev/zero", kind=b"3", fields={329: b"0000001\0", 337: b"0000005\0"})
# Archives that tools write and that the fuzzer does not generate.
KNOWN = [
    [header(b"./", kind=b"5"), header(b"./a", kind=b"5"), entry(b"./a/b", b"x" * 5000), ZERO],
    [entry(b"a", b"x"), header(b"b", kind=b"1", target=b"./a"), header(b"c", kind=b"2", target=b"../../etc")],
    [entry(b".wh.gone"), entry(b"d/.wh..wh..opq"), entry(b"d/new", b"x")],
    [extended(records(path=b"n" * 200, mtime=b"-1.5", uid=b"3000000")), entry(b"x", b"y" * 513)],
    [extended(record(b"SCHILY.xattr.security.capability", b"\1\0\0\2" + bytes(16))), entry(b"a", b"x")],
    [
        long_name(b"t" * 200 + b"\0", kind=b"K"),
        long_name(b"b" * 200 + b"\0"),
        header(b"b", kind=b"2", gnu=True),
    ],
    [
        entry(b"old", b"x", kind=b"\0"),
        header(b"empty", kind=b"5"),
        entry("größe-\udcff".encode(errors="surrogateescape")),
    ],
    [header(b"links/" + b"%d" % number, kind=b"2", target=b"t" * 100) for number in range(50)],
]


@pytest.fixture(scope="module")
def limited(engine: Engine) -> Iterator[OwnEngine]:
    """An engine with a limit of 512 MiB of memory."""
    if not (CGROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("needs the memory controller of cgroup v1")
    group = CGROUPS / f"gridapps-test-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(512 * MIB))
    enter = ("sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh")
    own = OwnEngine(inside=enter)
    try:
        own.start()
        yield own
    finally:
        own.remove()
        for directory in sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True):
            directory.rmdir()
        group.rmdir()


def judged(content: bytes) -> tuple[Tree, int] | None:
    """The tree of a layer according to its entries, and its judged size; None when it is refused."""
    try:
        found = examine_layer([content], max_size=8 * MIB, max_files=1000)
    except (Invalid, TooLarge):
        return None
    return tree_of(tar_entries([content])), found.size


def tree_of(found: Iterable[TarEntry]) -> Tree:
    tree: Tree = {}
    for each in found:
        parts = each.path.split(b"/")
        for depth in range(1, len(parts)):
            tree.setdefault(b"/".join(parts[:depth]), ("directory", 0))
        if parts[-1] == b".wh..wh..opq" or not each.path:
            continue
        if parts[-1].startswith(b".wh."):
            parts[-1] = parts[-1].removeprefix(b".wh.")
            tree[b"/".join(parts)] = ("device", 0)
        elif each.kind is EntryKind.LINK:
            tree[each.path] = ("link", each.target)
        elif each.kind is EntryKind.HARD_LINK:
            tree[each.path] = tree[each.target]
        elif each.kind is EntryKind.DIRECTORY:
            tree[each.path] = ("directory", 0)
        elif each.kind is EntryKind.CHARACTER_DEVICE:
            tree[each.path] = ("device", os.makedev(*each.device))
        else:
            tree[each.path] = ("file", each.size)
    return tree


def unpacked(directory: Path) -> tuple[Tree, int]:
    """The tree that the engine has unpacked, and its size on the disk."""
    tree: Tree = {}
    taken: dict[int, int] = {}
    root = os.fsencode(directory)
    for base, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = base + b"/" + name
            found = os.lstat(path)
            taken[found.st_ino] = found.st_blocks * 512
            relative = os.path.relpath(path, root)
            if stat.S_ISLNK(found.st_mode):
                tree[relative] = ("link", os.readlink(path))  # noqa: PTH115 - bytes, as in the archive
            elif stat.S_ISDIR(found.st_mode):
                tree[relative] = ("directory", 0)
            elif stat.S_ISREG(found.st_mode):
                tree[relative] = ("file", found.st_size)
            else:
                tree[relative] = ("device", found.st_rdev)
    return tree, sum(taken.values())


def load(engine: OwnEngine, layers: list[bytes]) -> list[Path]:
    """Load an image into the engine; return the directory of each layer."""
    name = f"fuzz:{uuid.uuid4().hex[:12]}"
    diff_ids = [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers]
    configuration = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    files = {f"{number}.tar": each for number, each in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": list(files)}]
    archive = io.BytesIO()
    described = {"config.json": configuration, "manifest.json": manifest}
    files |= {path: json.dumps(document).encode() for path, document in described.items()}
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with closing(docker.APIClient(engine.address, timeout=120)) as client:
        for answer in client.load_image(archive.getvalue()):
            if "error" in answer:
                raise ValueError(answer["error"])
        data = client.inspect_image(name)["GraphDriver"]
    assert data["Name"] == "overlay2", "the test looks into its directories"
    lower = data["Data"].get("LowerDir", "")
    return [Path(each) for each in [*reversed(lower.split(":") if lower else []), data["Data"]["UpperDir"]]]


def compare(engine: OwnEngine, layers: list[bytes]) -> None:
    """Compare the layers in one image. If that fails, compare each in its own image, to name the fault."""
    try:
        directories = load(engine, layers)
    except ValueError as error:
        for each in layers if len(layers) > 1 else []:
            compare(engine, [each])
        raise AssertionError(f"the engine does not unpack what was taken: {error}\n{layers[0]!r}") from None
    for content, directory in zip(layers, directories, strict=True):
        found = judged(content)
        assert found is not None
        tree, size = unpacked(directory)
        assert tree == found[0], content
        assert size <= found[1], content


@pytest.mark.service
@pytest.mark.xdist_group("fuzz")
def test_what_tools_write_unpacks_as_judged(limited: OwnEngine) -> None:
    layers = [b"".join(parts) + END for parts in KNOWN]
    assert all(judged(each) for each in layers)
    compare(limited, layers)


@pytest.mark.service
@pytest.mark.xdist_group("fuzz")
def test_what_is_taken_unpacks_as_judged(limited: OwnEngine) -> None:
    taken: dict[bytes, None] = {}

    @fuzzing
    @given(content=archives())
    def gather(content: bytes) -> None:
        if judged(content) is not None:
            taken[content] = None

    gather()
    assert len(taken) > 20, "a fuzzer whose inputs are all refused shows nothing"
    layers = list(taken)
    for start in range(0, len(layers) if SOAK else BATCH, BATCH):
        compare(limited, layers[start : start + BATCH])


@fuzzing
@given(content=archives())
def test_any_archive_is_judged(content: bytes) -> None:
    """A refusal has a sentence, and an accepted archive is no larger for Python's own reader than judged."""
    found = judged(content)
    if found is None:
        return
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as archive:
        members = archive.getmembers()
    assert sum(member.size for member in members if member.isreg()) <= found[1]
