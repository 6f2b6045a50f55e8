# SPDX-License-Identifier: Apache-2.0

"""Names of traces, and when they were answered, from whatever pieces."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge import roots
from profiler_bridge.notification import Notification
from profiler_bridge.path import MOST_IDS
from profiler_bridge.roots import MOST_OPERATIONS, Roots, about, rank
from profiler_bridge.testing.sample import SECOND, Payload, notifications
from tests import recorded
from tests.unit.test_trace import child, uid

UUID = "81a72687-c1e0-4013-b3a8-42c2210c790e"


def asked(
    number: int, method: object, path: object, **fields: Any
) -> list[Payload]:
    info = {"request": {"method": method, "path": path}}
    return child(number, name="wsgi", info=info, **fields)


def roots_of(*payloads: list[Payload]) -> Roots:
    return Roots.of(notifications(chain(*payloads)))


def first(payloads: list[Payload]) -> Notification:
    return Notification.from_payload(payloads[0])


@pytest.mark.parametrize(
    ("expected", "method", "path"),
    [
        (0, "POST", "/v2.1/servers"),
        (0, "delete", f"/v2.1/servers/{UUID}"),
        (0, "POST", "/"),
        (1, "GET", "/v2.1/servers"),
        (1, None, "/v2.1/servers"),
        (1, "GET", None),
        (1, {"POST": 1}, ["/"]),
        (3, "POST", "/v3/auth/tokens"),
        (3, "GET", "/identity/v3/auth/catalog"),
        (4, "GET", "/identity/v3"),
        (4, "GET", ""),
    ],
)
def test_rank(expected: int, method: object, path: object) -> None:
    assert rank(first(asked(1, method, path))) == expected


def test_rank_of_no_request() -> None:
    assert rank(first(child(1))) == 2
    assert rank(first(child(1, name="wsgi"))) == 1
    assert rank(first(child(1, info={"requests": {"path": "/v3"}}))) == 2


def test_names_of_recorded_traces() -> None:
    [create, *calls] = [
        (Roots.of(trace.notifications()), trace)
        for trace in recorded.traces(
            recorded.server_create() + recorded.keystone()
        )
    ]
    assert [own.title for own, _ in calls] == [
        *("POST /v3/auth/tokens", "GET /v3/users", "GET /v3/endpoints")
    ]
    assert {own.after(set(), trace.finished) for own, trace in calls} == {0}
    own, trace = create
    assert own.title == "POST /v2.1/servers +13"
    assert len(own.operations) == 10
    assert own.answered(set()) == 18_863_424
    assert own.after(set(), trace.finished) == 127_289_770


def test_uuids_of_recorded_traces() -> None:
    """The server, its image, network and port; and Placement's own two."""
    [create] = recorded.traces(recorded.server_create())
    uuids = {uuid for span in create.spans for uuid in about(span.first)}
    assert UUID in uuids
    assert len(uuids) == 6
    assert not any(
        about(span.first)
        for trace in recorded.traces(recorded.keystone())
        for span in trace.spans
    )


def test_a_trace_is_about_what_was_asked_of_others_too() -> None:
    sent = child(1, info={"requests": {"path": f"/v2/images/{UUID}/file"}})
    assert [*about(first(sent))] == [UUID]
    assert [*about(first(child(1)))] == []
    assert [*about(first(asked(1, "GET", None)))] == []
    many = "".join(f"/{uid(number)}" for number in range(1000))
    assert len(about(first(asked(1, "GET", many)))) == MOST_IDS


def test_nothing_is_known_without_roots() -> None:
    own = roots_of(child(2, 1))
    assert own == Roots()
    assert own.name is own.title is None
    assert own.answered(set()) is own.after(set(), 0) is None
    assert own.count == 0


def test_an_unfinished_root_is_not_answered() -> None:
    one, other = asked(1, "GET", "/a", at=0), asked(2, "GET", "/b", at=50)
    own = roots_of(one, other[:1])
    assert own.answered({uid(2)}) is None
    assert own.after({uid(2)}, 10**18) is None
    # Nor is one of which nothing but the start came.
    assert roots_of(one[:1]).answered(set()) is None
    assert roots_of(one[1:]).answered(set()) is None
    # Unfinished spans that are no roots are what comes after.
    assert own.answered({uid(7)}) == 10_000


def test_what_a_thread_does_later_is_no_root_of_a_command() -> None:
    request = asked(1, "GET", "/a")
    later = child(2, at=60_000)
    own = roots_of(request, later)
    assert own.title == "GET /a"
    assert own.answered(set()) == 10_000
    assert own.after(set(), own.others.stopped or 0) == 60 * SECOND
    # It is all there is of a trace without requests.
    assert roots_of(later, child(3, at=60_001)).title == "db +1"


def test_clocks_that_disagree_give_no_time_below_zero() -> None:
    own = roots_of(asked(1, "GET", "/a", duration=-5))
    assert own.answered(set()) == 0
    assert own.after(set(), 0) == 0


paths = st.sampled_from(
    ["/v3", "/v3/auth/tokens", "/v2.1/servers", f"/v2.1/servers/{UUID}", "/a"]
)


@st.composite
def spans(draw: st.DrawFn) -> list[Payload]:
    times = {
        "at": draw(st.integers(0, 5)),
        "duration": draw(st.integers(-2, 5)),
    }
    number = draw(st.integers(1, 8))
    if draw(st.booleans()):
        return asked(
            *(number, draw(st.sampled_from(["GET", "POST"])), draw(paths)),
            **times,
        )
    return child(number, draw(st.integers(0, 1)), **times)


@given(st.lists(spans(), max_size=12), st.randoms(use_true_random=False))
@pytest.mark.parametrize("most", [1, 2, MOST_OPERATIONS])
def test_pieces_merge_to_the_same(
    most: int, several: list[list[Payload]], rng: random.Random
) -> None:
    """However a trace is cut, in any order, with pieces that come twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roots, "MOST_OPERATIONS", most)
        payloads = [*chain(*several)]
        whole = Roots.of(notifications(payloads))
        assert len(whole.operations) <= most
        pieces: list[list[Payload]] = [[] for _ in range(4)]
        for payload in payloads:
            for piece in rng.sample(pieces, rng.randint(1, 2)):
                piece.append(payload)
        merged = Roots()
        for piece in pieces:
            rng.shuffle(piece)
            merged.merge(Roots.of(notifications(piece)))
        assert merged == whole
        assert merged.title == whole.title


def test_the_name_is_kept_among_many_operations() -> None:
    own = roots_of(
        *(asked(n, "GET", f"/word{n}", at=n) for n in range(1, 101)),
        asked(101, "POST", "/last", at=101),
        asked(102, "GET", "/v3", at=0),
    )
    assert len(own.operations) == MOST_OPERATIONS
    assert own.title == "POST /last +101"
    assert "GET /v3" not in own.operations
