"""What an engine would read as /etc/passwd and /etc/group, through all layers and links."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridapps.oci import trees
from gridapps.oci.documents import Invalid
from gridapps.oci.layer_contents import examine_layer
from tests.registry.tars import END, entry, header

MIB = 1024**2
LARGE = bytes(trees.MAX_ACCOUNTS + 1)
SMALL = b"root:x:0:0::/:/bin/sh\n"


def file(path: str, content: bytes = SMALL) -> bytes:
    return entry(path.encode(), content)


def link(path: str, target: str) -> bytes:
    return header(path.encode(), kind=b"2", target=target.encode())


def hard(path: str, target: str) -> bytes:
    return header(path.encode(), kind=b"1", target=target.encode())


def folder(path: str) -> bytes:
    return header(path.encode(), kind=b"5")


def device(path: str, minor: int) -> bytes:
    return header(path.encode(), kind=b"3", fields={329: b"0000001\0", 337: b"%07o\0" % minor})


def index(*entries: bytes) -> bytes:
    return examine_layer([b"".join(entries) + END], max_size=100 * MIB, max_files=10_000).index


def judge(*layers: list[bytes]) -> None:
    trees.judge_indexes([index(*entries) for entries in layers])


def refusal(*layers: list[bytes]) -> str:
    with pytest.raises(Invalid) as raised:
        judge(*layers)
    return str(raised.value)


ZERO = device("dev/zero", 5)


@pytest.mark.parametrize(
    "layers",
    [
        [[file("etc/passwd", LARGE)]],
        [[file("./etc/group", LARGE)]],
        [[file("/etc/group", LARGE)]],
        [[file("big", LARGE), link("etc/passwd", "/big")]],
        [[file("big", LARGE), link("etc/passwd", "../big")]],
        [[file("big", LARGE), link("etc/passwd", "../../../big")]],
        [[file("big", LARGE), link("etc/passwd", "..//./big/.")]],
        [[file("big", LARGE), hard("etc/passwd", "big")]],
        [[file("big", LARGE), link("soft", "big"), hard("etc/passwd", "soft"), link("etc/big", "../soft")]],
        [[file("big", LARGE)], [link("etc/group", "/big")]],
        [[link("etc/group", "/big")], [file("big", LARGE)]],
        [[file("other/passwd", LARGE)], [link("etc", "other")]],
        [[file("other/passwd", LARGE)], [link("etc", "/other")]],
        [[file("a/b/passwd", LARGE)], [link("etc", "/x/y")], [link("x", "a")], [link("a/y", "b")]],
        [[file("a/passwd", LARGE), link("etc", "l1"), link("l1", "l2"), link("l2", "./l3"), link("l3", "a")]],
        [[file("big", LARGE), link("a/b/c", "/big")], [link("etc/passwd", "../a/../a/b/c")]],
        [[file("big", LARGE)], [link("etc/passwd", "/absent/../big")]],
        [[ZERO, link("etc/passwd", "/dev/zero")]],
        [[ZERO, hard("etc/passwd", "dev/zero")]],
        [[ZERO], [link("etc/group", "../dev/zero")]],
        [[ZERO, link("etc", "dev"), link("dev/group", "zero")]],
        [[file("etc/passwd", LARGE)], [file("etc/passwd")]],  # some engine may still see the lower one
        [[file("etc/passwd", LARGE)], [entry(b"etc/.wh.passwd")]],
        [[file("etc/passwd", LARGE)], [folder("etc"), entry(b"etc/.wh..wh..opq")]],
    ],
)
def test_accounts_that_no_engine_should_read_are_refused(layers: list[list[bytes]]) -> None:
    assert "Engines read it whole" in refusal(*layers)


@pytest.mark.parametrize(
    "layers",
    [
        [[]],
        [[file("etc/passwd"), file("etc/group"), file("big", LARGE), ZERO]],
        [[file("etc/passwd", bytes(trees.MAX_ACCOUNTS))]],
        [[link("etc/passwd", "/nix/store/passwd"), file("nix/store/passwd"), file("nix/store/big", LARGE)]],
        [[file("a", b"x"), hard("etc/passwd", "a")], [file("b", LARGE)]],
        [[link("etc", "usr/etc"), file("usr/etc/passwd")]],
        [[link("etc/passwd", "passwd")]],
        [[link("etc/passwd", "/etc/group"), link("etc/group", "/etc/passwd")]],
        [[link("etc/mtab", "/proc/mounts"), link("dev/fd", "/proc/self/fd"), file("usr/bin/passwd", LARGE)]],
        [[link("bin", "usr/bin"), file("usr/bin/sh", LARGE)], [file("usr/bin/bash", LARGE)]],
    ],
)
def test_accounts_that_are_absent_or_small_are_taken(layers: list[list[bytes]]) -> None:
    judge(*layers)


@pytest.mark.parametrize(
    "target",
    ["/dev/zero", "../dev/ptmx", "/dev/stdin", "/proc/self/fd/0", "/proc/kmsg", "/sys/x",
     "/input/pointcloud.laz", "/grid/x", "/tmp/x", "x/../../dev/tty"],
)  # fmt: skip
def test_accounts_that_lead_to_what_only_a_container_has_are_refused(target: str) -> None:
    """The image has nothing there; inside the container runc would read a device, a pipe or a point cloud."""
    assert "where a container has other files" in refusal([link("etc/group", target)])
    assert "where a container has other files" in refusal([link("y", target)], [link("etc/passwd", "../y")])


def test_a_layer_that_writes_through_a_link_of_a_lower_one_is_refused() -> None:
    """containerd follows it, overlay file systems put a directory in its place."""
    lower = [link("sneaky", "etc"), folder("etc")]
    said = refusal(lower, [file("sneaky/passwd", LARGE)])
    assert "Layer 2 has files below '/sneaky', which is a link in layer 1" in said
    assert "which is a link in layer 1" in refusal(lower, [file("x")], [entry(b"sneaky/deep/.wh.x")])
    judge(lower, [folder("sneaky"), file("sneaky/passwd")])
    judge([file("sneaky/passwd")], [link("sneaky", "etc")])


def test_too_many_links_are_refused() -> None:
    links = [link(f"etc/l{number}", f"l{number + 1}") for number in range(trees.MAX_STEPS)]
    assert "too many links" in refusal([link("etc/passwd", "l0"), *links])
    doubling = [link(f"d{number}", f"d{number + 1}/d{number + 1}") for number in range(50)]
    assert "too many links" in refusal([link("etc/passwd", "/d0"), *doubling])


def test_an_index_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    links = [link(f"l{number}", "x" * 90) for number in range(100)]
    monkeypatch.setattr(trees, "MAX_INDEX", 5000)
    with pytest.raises(Invalid, match="more links and large files than fit into 5000 bytes"):
        index(*links)
    monkeypatch.undo()
    monkeypatch.setattr(trees, "MAX_INDEXES", 15_000)
    judge(links)
    assert "too many links and large files together" in refusal(links, links)


def test_names_cannot_forge_records() -> None:
    """A name or target that looks like a part of another record is none."""
    judge([link("a", "Letc/passwd"), link("Letc/passwd", "F"), file("big", LARGE)])
    judge([link("x", "etc/passwd"), file("Fetc/passwd", LARGE), file("etc/passwdF", LARGE)])


NAMES = st.sampled_from(["etc", "passwd", "group", "a", "b"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.tuples(st.sampled_from(["", "/", "../", "./"]), PATHS).map("".join)
ENTRIES = st.one_of(
    st.tuples(st.just(file), PATHS),
    st.tuples(st.just(lambda path: file(path, LARGE)), PATHS),
    st.tuples(st.just(folder), PATHS),
    st.tuples(st.just(link), PATHS, TARGETS),
    st.tuples(st.just(hard), PATHS, PATHS),
)


class _Merged:
    """What layers make when each is put over the one below: a model that is written the obvious way."""

    def __init__(self) -> None:
        self.nodes: dict[str, tuple[str, str]] = {}  # by path: kind and target

    def add(self, path: str, kind: str, target: str = "") -> None:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if self.nodes.get(above, ("folder", ""))[0] != "folder":
                del self.nodes[above]
            self.nodes[above] = ("folder", "")
        if kind != "folder":
            self.nodes = {each: node for each, node in self.nodes.items() if not each.startswith(path + "/")}
        self.nodes[path] = (kind, target)

    def reads_large(self, path: str) -> bool:
        """Follow the path as a kernel does, with 40 links at most."""
        at: list[str] = []
        todo, links = path.split("/"), 0
        while todo:
            name = todo.pop(0)
            if name in ("", "."):
                continue
            if name == "..":
                at = at[:-1]
                continue
            kind, target = self.nodes.get("/".join([*at, name]), ("", ""))
            if kind == "link":
                links += 1
                if links > 40:
                    return False
                at = [] if target.startswith("/") else at
                todo = target.split("/") + todo
            elif kind == "folder":
                at.append(name)
            else:
                return kind == "large" and not todo
        return False


@given(layers=st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=3))
def test_whatever_a_kernel_would_find_large_is_refused(layers: list[list[tuple]]) -> None:  # type: ignore[type-arg]
    merged, indexes = _Merged(), []
    for entries in layers:
        taken: list[bytes] = []
        for make, path, *target in entries:
            try:
                index(*taken, make(path, *target))
            except Invalid:
                continue
            taken.append(make(path, *target))
            if make is link:
                merged.add(path, "link", target[0])
            elif make is hard:
                merged.add(path, *merged.nodes[target[0]])
            elif make is folder:
                merged.add(path, "folder")
            else:
                merged.add(path, "file" if make is file else "large")
        indexes.append(index(*taken))
    try:
        trees.judge_indexes(indexes)
    except Invalid:
        return
    assert not any(merged.reads_large(path.decode()) for path in trees.WATCHED)
