# SPDX-License-Identifier: Apache-2.0

"""Who calls whom, drawn in layers from left to right. Pure.

Each box stands to the right of all that call it, but for calls that close a
ring. Every call arrives at a place of its own, so that what is written there
never lies on anything else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

#: The size of a box, but for its height, and of what is between two.
WIDTH, GAP, SPACE = 150, 100, 18
# Of a box without calls, of one more call, and around all.
_LEAST, _CALL, _MARGIN = 34, 17, 10
# How often boxes are put nearer to those that they have calls with.
_SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Box:
    """Where a name stands; in pixels."""

    name: str
    x: int
    y: int
    height: int


@dataclass(frozen=True, slots=True)
class Line:
    """From a box to another.

    :param path: of SVG
    :param x: where it arrives, likewise y
    """

    client: str
    server: str
    path: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """All of it."""

    width: int
    height: int
    boxes: Sequence[Box]
    lines: Sequence[Line]


def draw(edges: Collection[tuple[str, str]]) -> Drawing | None:
    """Lay out the names of edges.

    :param edges: from whom to whom, each once, none to itself
    :returns: None where there is none
    """
    if not edges:
        return None
    layers = _layers(edges)
    callers: dict[str, list[str]] = {}
    called: dict[str, list[str]] = {}
    for client, server in edges:
        callers.setdefault(server, []).append(client)
        called.setdefault(client, []).append(server)
    _untangle(layers, callers, called)
    boxes = _boxes(layers, callers)
    lines = []
    for name, box in boxes.items():
        clients = sorted(
            callers.get(name, ()), key=lambda client: boxes[client].y
        )
        first = box.y + (box.height - _CALL * (len(clients) - 1)) // 2
        for place, client in enumerate(clients):
            y = first + place * _CALL
            lines.append(
                Line(client, name, _path(boxes[client], box, y), box.x, y)
            )
    return Drawing(
        max(box.x for box in boxes.values()) + WIDTH + _MARGIN,
        max(box.y + box.height for box in boxes.values()) + _MARGIN,
        [*boxes.values()],
        lines,
    )


def _path(client: Box, server: Box, y: int) -> str:
    begin_x, begin_y = client.x + WIDTH, client.y + client.height // 2
    # Level where it arrives, because there its text is.
    bend = max((server.x - begin_x) // 2, GAP // 3)
    return (
        f"M{begin_x} {begin_y}C{begin_x + bend} {begin_y}"
        f" {server.x - bend} {y} {server.x} {y}"
    )


def _layers(edges: Collection[tuple[str, str]]) -> list[list[str]]:
    """The names, each in a later layer than all that call it."""
    below: dict[str, list[str]] = {}
    for client, server in edges:
        below.setdefault(client, []).append(server)
        below.setdefault(server, [])
    order = _callers_first(below, {server for _, server in edges})
    place = {name: number for number, name in enumerate(order)}
    layer = dict.fromkeys(order, 0)
    for name in order:
        for server in below[name]:
            # Otherwise it closes a ring.
            if place[server] > place[name]:
                layer[server] = max(layer[server], layer[name] + 1)
    layers: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for name in order:
        layers[layer[name]].append(name)
    return layers


def _callers_first(
    below: Mapping[str, Sequence[str]], called: Collection[str]
) -> list[str]:
    """In an order in which few calls lead back: a depth-first search's."""
    done: list[str] = []
    seen: set[str] = set()
    # Those that nobody calls first.
    for start in sorted(below, key=lambda name: (name in called, name)):
        if start in seen:
            continue
        seen.add(start)
        waiting = [(start, iter(below[start]))]
        while waiting:
            name, rest = waiting[-1]
            server = next((one for one in rest if one not in seen), None)
            if server is None:
                done.append(name)
                waiting.pop()
            else:
                seen.add(server)
                waiting.append((server, iter(below[server])))
    return done[::-1]


def _untangle(
    layers: Sequence[list[str]],
    callers: Mapping[str, Sequence[str]],
    called: Mapping[str, Sequence[str]],
) -> None:
    """Put names near to the middle of those that they have calls with."""
    at = {
        name: number / max(len(layer) - 1, 1)
        for layer in layers
        for number, name in enumerate(layer)
    }

    def middle(near: Sequence[str], name: str) -> float:
        return sum(at[one] for one in near) / len(near) if near else at[name]

    for sweep in range(_SWEEPS):
        near = callers if sweep % 2 == 0 else called
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            layer.sort(key=lambda name: middle(near.get(name, ()), name))
            for number, name in enumerate(layer):
                at[name] = number / max(len(layer) - 1, 1)


def _boxes(
    layers: Sequence[Sequence[str]], callers: Mapping[str, Sequence[str]]
) -> dict[str, Box]:
    heights = {
        name: max(_LEAST, _CALL * len(callers.get(name, ())) + _CALL // 2)
        for layer in layers
        for name in layer
    }
    whole = [
        sum(heights[name] + SPACE for name in layer) - SPACE
        for layer in layers
    ]
    boxes = {}
    for number, layer in enumerate(layers):
        x = _MARGIN + number * (WIDTH + GAP)
        y = _MARGIN + (max(whole) - whole[number]) // 2
        for name in layer:
            boxes[name] = Box(name, x, y, heights[name])
            y += heights[name] + SPACE
    return boxes
