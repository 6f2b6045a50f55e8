# SPDX-License-Identifier: Apache-2.0

"""How values are written for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.report.text import cut, duration, percent, took, width
from profiler_bridge.text import printable


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_printable(text: str) -> None:
    assert printable(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_printable_keeps_what_is_harmless(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a b é 💥", "a b é 💥"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\0", r"a\nb\tc\x00"),
        ("\u202eabc", r"\u202eabc"),
        ("\udc80", r"\udc80"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_printable_escapes(text: str, escaped: str) -> None:
    assert printable(text) == escaped


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        *[(0, "0 us"), (1, "1 us"), (4.4, "4 us"), (431, "431 us")],
        *[(999.4, "999 us"), (999.6, "1.00 ms"), (1000, "1.00 ms")],
        *[(9994, "9.99 ms"), (9996, "10.0 ms"), (23_100, "23.1 ms")],
        *[(99_960, "100 ms"), (999_499, "999 ms"), (999_500, "1.00 s")],
        *[(9_000_000, "9.00 s"), (127_289_770, "127 s")],
        *[(999_499_999, "999 s"), (1_000_000_000, "16.7 min")],
        *[(7_200_000_000, "2.00 h"), (90_000_000_000, "25.0 h")],
        *[(864_000_000_000, "10.0 d"), (-3000, "-3.00 ms")],
    ],
)
def test_duration(microseconds: float, text: str) -> None:
    assert duration(microseconds) == text


@given(st.integers(1, 10**15))
def test_duration_is_right_in_three_digits(microseconds: int) -> None:
    sizes = {
        "us": 1,
        "ms": 1e3,
        "s": 1e6,
        "min": 6e7,
        "h": 3.6e9,
        "d": 8.64e10,
    }
    text = duration(microseconds)
    digits, unit = text.split()
    assert len(text) <= 8
    assert float(digits) * sizes[unit] == pytest.approx(
        microseconds, rel=0.00501
    )


@pytest.mark.parametrize(
    ("answered", "after", "text"),
    [
        (18_863_424, 127_289_770, "18.9 s (+127 s after)"),
        (18_863_424, 0, "18.9 s"),
        (None, None, "146 s"),
    ],
)
def test_took(answered: int | None, after: int | None, text: str) -> None:
    assert took(146_153_194, answered, after) == text


@given(st.text(st.characters(codec="utf-8")).map(printable), st.integers(0, 9))
def test_cut(text: str, most: int) -> None:
    shown = cut(text, most)
    assert width(shown) <= most
    if width(text) <= most:
        assert shown == text
    elif most:
        assert text.startswith(shown.removesuffix("…"))


def test_width_of_what_is_wide_and_of_accents() -> None:
    assert width("abc") == 3
    assert width("日本") == 4
    assert width("e\u0301") == 1
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"


def test_percent() -> None:
    assert [*map(percent, (21.14, -3, 0))] == ["+21.1%", "-3.0%", "+0.0%"]
