# SPDX-License-Identifier: Apache-2.0

"""The check of the HTML report's scripts."""

from __future__ import annotations

import pytest

from profiler_bridge.report import html
from profiler_bridge.trace import Trace
from tests.eslint import __main__ as eslint


def test_no_script_is_left_out_of_the_page() -> None:
    assert sorted(html.SCRIPTS) == sorted(
        path.name for path in eslint.PAGE.glob("*.js")
    )


def test_lines_keep_their_file_and_number() -> None:
    lines = [*eslint.lines()]
    text = "".join(line for _, _, line in lines)
    assert f'<script type="module">{text}</script>' in "".join(
        html.render(Trace.build("", []))
    )
    for path, number, line in lines:
        assert path.read_text().splitlines(keepends=True)[number - 1] == line


@pytest.mark.parametrize(
    ("ci", "code", "outcome"), [("", 0, "is skipped"), ("true", 1, "cannot")]
)
def test_without_npm(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ci: str,
    code: int,
    outcome: str,
) -> None:
    """Only CI fails then; elsewhere a message says what is skipped."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    assert eslint.main() == code
    assert outcome in capsys.readouterr().out
