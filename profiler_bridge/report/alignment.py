# SPDX-License-Identifier: Apache-2.0

"""Which span of one trace is which of another. Pure.

Ids tell nothing: each trace has its own. Two spans are a pair if they did the
same in the same service, below parents that are a pair, and each is the first,
the second, and so on of its siblings that did so. On which host, for how long
and whether it failed is what may differ.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field

from profiler_bridge.report import spans as _spans
from profiler_bridge.trace import Span, Trace

_NOTHING: Set[str] = frozenset()


@dataclass(slots=True, eq=False)
class Pair:
    """What two traces have in one place of their trees.

    :param before: None where only the other trace has it: it is *new*
    :param after: None where it is *gone*; never both
    :param children: in the order of the later trace; what is gone stands
        before what followed it
    """

    before: Span | None
    after: Span | None
    children: list[Pair] = field(default_factory=list)

    @property
    def span(self) -> Span:
        """The later one, or the earlier where there is no other."""
        span = self.after or self.before
        assert span is not None  # noqa: S101 - a pair has at least one
        return span

    @property
    def sides(self) -> tuple[Span | None, Span | None]:
        return self.before, self.after


def align(
    before: Trace,
    after: Trace,
    without_before: Set[str] = _NOTHING,
    without_after: Set[str] = _NOTHING,
) -> list[Pair]:
    """Lay two traces beside each other; in linear time.

    :param without_before: spans that are left out with all that is below
        them, by trace_id; likewise of the other trace
    :returns: the roots. In these, and all below them, each span is once.
    """
    left_out = without_before, without_after
    roots = _paired(before.roots, after.roots, left_out)
    waiting = [*roots]
    while waiting:
        pair = waiting.pop()
        pair.children = _paired(
            pair.before.children if pair.before else (),
            pair.after.children if pair.after else (),
            left_out,
        )
        waiting += pair.children
    return roots


def walk(roots: Sequence[Pair]) -> Iterator[tuple[int, Pair]]:
    """Every pair with its depth (0 for a root), parents first."""
    stack = [(0, pair) for pair in reversed(roots)]
    while stack:
        depth, pair = stack.pop()
        yield depth, pair
        stack.extend((depth + 1, child) for child in pair.children[::-1])


def service(span: Span) -> str:
    """The service of a span, whichever host it ran on; printable."""
    place = _spans.place(span)._replace(host="")
    return str(place) if any(place) else ""


def _paired(
    before: Iterable[Span],
    after: Iterable[Span],
    left_out: tuple[Set[str], Set[str]],
) -> list[Pair]:
    """Pair siblings: the first with the first that did the same, and so on."""
    earlier = [span for span in before if span.trace_id not in left_out[0]]
    later = [span for span in after if span.trace_id not in left_out[1]]
    if not earlier or not later:
        return [Pair(span, None) for span in earlier] + [
            Pair(None, span) for span in later
        ]
    alike: dict[tuple[str, ...], deque[int]] = defaultdict(deque)
    for at, span in enumerate(earlier):
        alike[_look(span)].append(at)
    partners = [
        places.popleft() if (places := alike.get(_look(span))) else None
        for span in later
    ]
    taken = {at for at in partners if at is not None}
    pairs = []
    begin = 0
    for span, partner in zip(later, partners, strict=True):
        if partner is None:
            pairs.append(Pair(None, span))
            continue
        # Where the order changed, what is gone has been given already.
        pairs += _gone(earlier, taken, begin, partner)
        begin = max(begin, partner)
        pairs.append(Pair(earlier[partner], span))
    return pairs + _gone(earlier, taken, begin, len(earlier))


def _gone(
    earlier: Sequence[Span], taken: Set[int], begin: int, end: int
) -> list[Pair]:
    return [
        Pair(earlier[at], None) for at in range(begin, end) if at not in taken
    ]


def _look(span: Span) -> tuple[str, ...]:
    """What two spans have in common to be a pair."""
    project, service, _ = _spans.place(span)
    return _spans.label(span), project, service
