# SPDX-License-Identifier: Apache-2.0

"""Where things stand in the drawings of the service's pages."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge.api.pages import layers
from profiler_bridge.api.pages.scatter import MOST, Scatter
from profiler_bridge.summary import TraceSummary

NAMES = st.sampled_from("abcdefghij")


def summary(started: int, duration: int) -> TraceSummary:
    return TraceSummary(
        *("", started, started + duration, None, 1, None, (), ()),
        *(1, 0, 0, 0, 0, (), (), ()),
    )


def test_callers_stand_to_the_left() -> None:
    drawing = layers.draw([("a", "b"), ("b", "c"), ("a", "c")])
    assert drawing is not None
    x = {box.name: box.x for box in drawing.boxes}
    assert x["a"] < x["b"] < x["c"]


def test_a_ring_is_drawn() -> None:
    drawing = layers.draw([("user", "a"), ("a", "b"), ("b", "a")])
    assert drawing is not None
    x = {box.name: box.x for box in drawing.boxes}
    assert x["user"] < x["a"] < x["b"]
    assert len(drawing.lines) == 3


def test_nothing_is_no_drawing() -> None:
    assert layers.draw([]) is None


def test_a_long_chain() -> None:
    names = [str(number) for number in range(3000)]
    drawing = layers.draw([*pairwise(names)])
    assert drawing is not None
    assert len(drawing.boxes) == 3000


@given(
    st.sets(
        st.tuples(NAMES, NAMES).filter(lambda edge: edge[0] != edge[1]),
        min_size=1,
    )
)
def test_nothing_lies_on_anything(edges: set[tuple[str, str]]) -> None:
    drawing = layers.draw(sorted(edges))
    assert drawing is not None
    assert {(line.client, line.server) for line in drawing.lines} == edges
    assert len({(line.x, line.y) for line in drawing.lines}) == len(edges)
    boxes = {box.name: box for box in drawing.boxes}
    assert boxes.keys() == {name for edge in edges for name in edge}
    for line in drawing.lines:
        box = boxes[line.server]
        assert box.y < line.y < box.y + box.height
    for box in boxes.values():
        assert 0 <= box.x <= drawing.width - layers.WIDTH
        assert 0 <= box.y <= drawing.height - box.height
        for other in boxes.values():
            assert (
                other is box
                or other.x != box.x
                or other.y >= box.y + box.height
                or box.y >= other.y + other.height
            )


def test_dots_stand_by_start_and_duration() -> None:
    scatter = Scatter.of([summary(0, 1000), summary(50, 10), summary(100, 0)])
    assert scatter is not None
    assert [dot.x for dot in scatter.dots] == [0, 50, 100]
    assert [dot.y for dot in scatter.dots] == [25, 75, 100]
    assert scatter.lines == [
        (1, 100),
        (10, 75),
        (100, 50),
        (1000, 25),
        (10_000, 0),
    ]


def test_too_few_and_too_many_dots() -> None:
    assert Scatter.of([]) is None
    assert Scatter.of([summary(0, 1)]) is None
    scatter = Scatter.of([summary(7, 5)] * (MOST + 5))
    assert scatter is not None
    assert len(scatter.dots) == MOST
    assert {dot.x for dot in scatter.dots} == {50}
