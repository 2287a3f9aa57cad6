"""The ids of a log's events: what was sent, whatever the order in which tasks end."""

from hypothesis import given
from hypothesis import strategies as st

from gridapps.api.native import log_cursor

INDEXES = st.integers(min_value=0, max_value=10**9 - 1)
OFFSETS = st.dictionaries(
    st.tuples(INDEXES, st.integers(min_value=1, max_value=3)), st.integers(min_value=0, max_value=10**12),
    max_size=20,
)  # fmt: skip


@given(st.sets(INDEXES | st.integers(min_value=0, max_value=30), max_size=40), OFFSETS)
def test_event_id_names_what_was_sent(whole: set[int], offsets: dict[tuple[int, int], int]) -> None:
    offsets = {each: sent for each, sent in offsets.items() if each[0] not in whole}
    cursor = log_cursor.decoded(log_cursor.encoded(whole, offsets))
    if cursor is None:
        assert (whole, offsets) == (set(), {})
        return
    assert all(cursor.offset((index, 1)) is None for index in whole)
    assert all(cursor.offset((index, 2)) == 0 for index in whole)
    assert all(cursor.offset(each) == sent for each, sent in offsets.items())
    known = whole | {index for index, _ in offsets}
    assert all(cursor.offset((index, 1)) == 0 for index in range(50) if index not in known)


@given(st.text(alphabet="0123456789-.:,x", max_size=60))
def test_any_text_decodes_to_a_cursor_or_none(text: str) -> None:
    cursor = log_cursor.decoded(text)
    assert cursor is None or cursor.offset((3, 1)) in {None, *cursor.offsets.values(), 0}


def test_an_id_that_would_be_too_long_is_not_sent() -> None:
    assert log_cursor.encoded(range(0, 10_000, 2), {}) == ""
    assert log_cursor.encoded(range(10_000), {(10_000, 2): 7}) == "0-9999,10000.2:7"
    assert log_cursor.decoded("1," * 2000) is None
