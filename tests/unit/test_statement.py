# SPDX-License-Identifier: Apache-2.0

"""What SQL statements do, and which of them are alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler_bridge import statement
from profiler_bridge.statement import describe, shape, shorten

DESCRIBED = {
    "": "",
    "  \n ": "",
    "?": "",
    "BEGIN": "BEGIN",
    "begin;": "BEGIN",
    "SAVEPOINT sa_savepoint_1": "SAVEPOINT",
    "SELECT 1": "SELECT",
    "SELECT last_insert_id() AS last_insert_id_1": "SELECT",
    "SELECT a FROM project WHERE a = 1": "SELECT project",
    "select a\nfrom\tproject\nwhere a in (select b from role)": (
        "SELECT project, role"
    ),
    "INSERT INTO ports (id, name) VALUES (%(id)s, %(name)s)": "INSERT ports",
    "INSERT INTO a SELECT * FROM b": "INSERT a, b",
    "REPLACE INTO a VALUES (1)": "REPLACE a",
    "UPDATE services SET report_count=?, from_=2 WHERE services.id = ?": (
        "UPDATE services"
    ),
    "UPDATE ONLY a SET x=1": "UPDATE a",
    "UPDATE a, b SET a.x = b.x, a.y = 1": "UPDATE a, b",
    "UPDATE a SET x=b.x, y=1 FROM b, c WHERE a.id=b.id": "UPDATE a, b, c",
    "DELETE FROM reservations WHERE id = %(id)s": "DELETE reservations",
    "DELETE FROM a USING b WHERE a.x = b.x": "DELETE a, b",
    "DELETE a FROM a JOIN b USING (id)": "DELETE a, b",
    "MERGE INTO a USING b ON a.x = b.x WHEN MATCHED THEN UPDATE SET y = 1": (
        "MERGE a, b"
    ),
    # Each table once, in the order in which they come.
    "SELECT * FROM b JOIN a ON 1 LEFT JOIN b AS b_1 ON 1": "SELECT b, a",
    "SELECT * FROM a, b AS x, c y WHERE a.i = 1 ORDER BY d, e": (
        "SELECT a, b, c"
    ),
    "SELECT * FROM a JOIN b ON a.x = b.x, c GROUP BY d, e": "SELECT a, b, c",
    "SELECT * FROM a, (SELECT b.x, b.y FROM b, c) AS s, d": (
        "SELECT a, b, c, d"
    ),
    "SELECT * FROM a LEFT JOIN (b AS b_1 JOIN c ON b_1.x = c.x) ON 1": (
        "SELECT a, b, c"
    ),
    "SELECT * FROM ((a JOIN b ON 1) JOIN c ON 1), d": "SELECT a, b, c, d",
    "(SELECT * FROM a) UNION (SELECT * FROM b)": "SELECT a, b",
    "SELECT x, y FROM a UNION SELECT x, y FROM b": "SELECT a, b",
    "SELECT * FROM a JOIN b, c, d STRAIGHT_JOIN e JOIN f": (
        "SELECT a, b, c, d +2"
    ),
    # Names with a schema, and in quotes.
    'SELECT * FROM nova.instances, "my table", `b`.`user`': (
        "SELECT instances, my table, user"
    ),
    'SELECT "a FROM b" FROM "c" JOIN "select"': "SELECT c, select",
    "SELECT a.from, b.update FROM c": "SELECT c",
    # Names of common table expressions are no tables.
    "WITH x AS (SELECT * FROM a), y (i, j) AS (SELECT * FROM x, b)"
    " SELECT * FROM x, y, c": "SELECT a, b, c",
    "WITH RECURSIVE x AS (SELECT 1 UNION SELECT * FROM X) DELETE FROM a": (
        "DELETE a"
    ),
    "WITH x AS (UPDATE a SET y=1 RETURNING z) UPDATE b SET y = 2": (
        "UPDATE a, b"
    ),
    "WITH a AS (SELECT * FROM s.a) SELECT * FROM a": "SELECT a",
    "INSERT INTO b WITH x AS (SELECT * FROM a) SELECT * FROM x": "INSERT b, a",
    "WITH": "WITH",
    # What only looks like it.
    "SELECT 'x FROM a', x FROM b WHERE y = 'it''s FROM c'": "SELECT b",
    "SELECT 'a\\' FROM b' FROM c": "SELECT c",
    "SELECT x FROM a WHERE y = 'open FROM b": "SELECT a",
    "SELECT x -- FROM a\nFROM b /* , c */, d": "SELECT b, d",
    "/* nova */ SELECT x FROM a /* open FROM b": "SELECT a",
    "-- nova\nSELECT x FROM/**/a": "SELECT a",
    "SELECT x FROM a FOR UPDATE": "SELECT a",
    "SELECT x FROM a FOR UPDATE OF b": "SELECT a",
    "SELECT EXTRACT(YEAR FROM b), TRIM(BOTH 'x' FROM c) FROM a": "SELECT a",
    "SELECT x FROM a WHERE x IS DISTINCT FROM b": "SELECT a",
    "SELECT DISTINCT x FROM a": "SELECT a",
    "SELECT * FROM generate_series(1, 2), a": "SELECT a",
    "SELECT * FROM a, LATERAL (SELECT * FROM b) AS c": "SELECT a, b",
    "INSERT INTO a (x) VALUES (1), (2) ON DUPLICATE KEY UPDATE x = 1": (
        "INSERT a"
    ),
    "INSERT INTO a (x) VALUES (1) ON CONFLICT DO UPDATE SET x = 1": "INSERT a",
    "SELECT :from, %(from)s, @from, $1 FROM a": "SELECT a",
    "SELECT x FROM :table": "SELECT",
    "SELECT x FROM": "SELECT",
    "SELECT x FROM )))) a FROM b": "SELECT b",
    "find": "FIND",
}


@pytest.mark.parametrize("text", DESCRIBED)
def test_statement_is_described(text: str) -> None:
    assert describe(text) == DESCRIBED[text]


def test_names_are_cut() -> None:
    name = "x" * 1000
    assert describe(f"{name} FROM {name}") == f"{'X' * 20} {'x' * 64}"


def test_what_is_far_behind_is_not_read() -> None:
    """A list of a million ids costs what one of thousands does."""
    ids = "?, " * 100_000
    assert describe(f"SELECT x FROM a WHERE i IN ({ids}?)") == "SELECT a"
    assert describe(f"SELECT {ids} FROM a") == "SELECT"


def test_huge_statements_are_not_kept() -> None:
    statement._describe_cached.cache_clear()
    statement._shape_cached.cache_clear()
    for text in ("SELECT 1", "SELECT 1", "SELECT 1" + " " * 20_000):
        assert describe(text) == "SELECT"
        assert shape(text) == "SELECT ?"
    for cached in (statement._describe_cached, statement._shape_cached):
        assert cached.cache_info().currsize == 1
        assert cached.cache_info().hits == 1


SHAPES = {
    "SELECT ?": ["SELECT 1", "SELECT  22.5 ", "SELECT 'a'", "SELECT 'it''s'"],
    "x IN (...)": [
        *("x IN (1)", "x IN (1, 'b', ?)", "x IN (%(x_1)s, %(x_2)s)"),
        *("x IN(:x_1,:x_2)", "x IN ((1, 2), (3, 4))"),
    ],
    "x in (SELECT y)": ["x in (SELECT y)"],
    "INSERT INTO a (b, c) VALUES (...)": [
        "INSERT INTO a (b, c) VALUES (%(b)s, %(c)s)",
        "INSERT INTO a (b, c) VALUES (1, 2), (3, 4),(5, now())",
    ],
    "SELECT a1, t.2a, $1, :b2, @c3, %(d_4)s": [
        "SELECT a1, t.2a, $1, :b2, @c3, %(d_4)s"
    ],
    'SELECT "it\'s 1" FROM `2`': ['SELECT "it\'s 1"\nFROM `2`'],
    "SELECT ? FROM a": ["SELECT /* 1 */ 1 -- 'x\nFROM a"],
    "SAVEPOINT sa_savepoint_?": [
        *("SAVEPOINT sa_savepoint_1", "SAVEPOINT sa_savepoint_12"),
    ],
}


@pytest.mark.parametrize("expected", SHAPES)
def test_statements_alike_have_one_shape(expected: str) -> None:
    assert {*map(shape, SHAPES[expected])} == {expected}


LONG = ", ".join(f"project.column_{number}" for number in range(20))


def test_most_of_what_is_selected_is_left_out() -> None:
    text = f"SELECT {LONG} \nFROM project \nWHERE project.id = ?"
    rest = "FROM project WHERE project.id = ?"
    assert shorten(text, 0) == f"SELECT … {rest}"
    assert shorten(text, 20) == (
        f"SELECT project.column_0, project.column_1, … {rest}"
    )
    assert shorten(text).startswith("SELECT project.column_0, project")
    assert shorten(text).endswith(f", … {rest}")
    assert 60 < len(shorten(text)) - len(f"SELECT … {rest}") < 80


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT 1",
        "SELECT a FROM b",
        f"SELECT {LONG}",
        f"SELECT {LONG} AS xFROM y",
        f"SELECT {LONG} AS FROM_",
        f"INSERT INTO a SELECT {LONG} FROM b",
        f"WITH x AS (SELECT {LONG} FROM a) SELECT * FROM x",
        "SELECT " + "x" * 60 + " FROM b",
    ],
)
def test_other_statements_stay_whole(text: str) -> None:
    assert shorten(text) == text


WORDS = [
    *("SELECT", "FROM", "a", "b", "WITH", "AS", "UPDATE", "INTO", "JOIN"),
    *("(", ")", ",", ".", "'", '"', "`", "/*", "*/", "--", "\n", "\\", "1"),
    *(
        "%(",
        "IN",
        "VALUES",
        "USING",
        "DISTINCT",
        "ONLY",
        "\0",
        "\ud800",
        "\u017f",
    ),
]


@given(
    st.text()
    | st.lists(st.sampled_from(WORDS)).map(" ".join)
    | st.lists(st.sampled_from(WORDS)).map("".join)
)
def test_whatever_comes_gives_a_bounded_text(text: str) -> None:
    assert len(describe(text)) <= 290
    assert "\n" not in shorten(text)
    assert shape(shape(text)) == shape(shape(shape(text)))
