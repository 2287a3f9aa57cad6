"""Untrusted inputs, modified at random. Inputs that fail are kept in corpus/ and tried first from then on."""

import hashlib
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS, examples

CORPUS = Path(__file__).with_name("corpus")
SLOW = 5.0  # seconds for one input on a busy machine; each takes milliseconds

EXTREMES = [
    b"", b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff" * 8, b"\0" * 8, b"\x7f\xff", b"\0\0\0\x80", b"%2e%2e",
    b"..", b"//", b"\r\n", b"\n", b"\x1b[2J", b'"', b"'", b"{", b"[" * 200, b"\\u0000", b"\\ud800",
    b"\xed\xa0\x80",
    b"9" * 40, b"-1", b"1e999", b"NaN", b"&from=", b"?", b"#", b"@", b":", b";", b"=" * 20, b"\xc2\x85",
    b" " * 99,
    b"\xe2\x80\xae", b"A" * 3000, b"Bearer ", b"://", b"$ref",
]  # fmt: skip


def spoilt(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Valid inputs with pieces replaced, inserted, removed or doubled, and sometimes random bytes alone."""
    piece = st.one_of(st.sampled_from(EXTREMES), st.binary(max_size=12))
    change = st.tuples(st.floats(0, 1), st.integers(0, 12), piece)

    def apply(seed: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
        data = seed
        for place, length, content in changes:
            # A file begins with its header, so half of the changes are made there.
            span = min(len(data), 400) if place < 0.5 else len(data)
            at = int(place * 2 % 1 * span)
            data = data[:at] + content + data[at + length :]
        return data

    changed = st.builds(apply, st.sampled_from(seeds), st.lists(change, min_size=1, max_size=5))
    return st.one_of(changed, changed, changed, st.binary(max_size=300))


def kept(target: str) -> list[Path]:
    return sorted((CORPUS / target).glob("*"))


def keep(target: str, data: bytes) -> Path:
    """Put an input that failed into the corpus."""
    path = CORPUS / target / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def tried(target: str, data: bytes) -> None:
    begun = time.process_time()
    TARGETS[target](data)
    assert time.process_time() - begun < SLOW, "it took too long"


@pytest.mark.parametrize("target", TARGETS)
def test_what_failed_once_and_what_is_good(target: str) -> None:
    for data in [*SEEDS[target], *(path.read_bytes() for path in kept(target))]:
        tried(target, data)


@pytest.mark.parametrize("target", TARGETS)
def test_any_input(target: str) -> None:
    failed: list[bytes] = []

    @settings(
        max_examples=examples(), deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(spoilt(SEEDS[target]))
    def run(data: bytes) -> None:
        try:
            tried(target, data)
        except BaseException:
            failed.append(data)
            raise

    try:
        run()
    except BaseException as error:
        if not failed:
            raise
        smallest = min(failed, key=len)
        path = keep(target, smallest)
        raise AssertionError(f"{path} makes {target} fail: {smallest[:300]!r}") from error


def test_a_failing_input_is_kept_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[bytes] = []

    def fragile(data: bytes) -> None:
        if b"@" in data:
            failed.append(data)
            raise AssertionError

    monkeypatch.setitem(TARGETS, "byte_range", fragile)
    monkeypatch.setattr("tests.fuzz.test_fuzz.CORPUS", tmp_path)
    monkeypatch.setenv("FUZZ_EXAMPLES", "500")
    with pytest.raises(AssertionError, match="makes byte_range fail"):
        test_any_input("byte_range")
    [path] = kept("byte_range")
    assert path.read_bytes() == min(failed, key=len)
    with pytest.raises(AssertionError):
        test_what_failed_once_and_what_is_good("byte_range")
