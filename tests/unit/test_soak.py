# SPDX-License-Identifier: Apache-2.0

"""What a soak writes down, without the hour."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from xml.etree import ElementTree as ET

from profiler_bridge.body import decode_body
from profiler_bridge.notification import Notification
from profiler_bridge.sender.points import encode
from profiler_bridge.simulation.load import Load
from profiler_bridge.storage import get_storage
from tests.benchmarks import chart
from tests.benchmarks.ledger import Ledger


def test_the_picture_has_all_lines_and_what_happened() -> None:
    rows = [
        {
            "seconds": 10.0 * number,
            "rss daemon": 70.0,
            "rss MariaDB": 100.0 + number,
            **({"lag": 0.3} if number != 5 else {}),
            "waiting": number,
            "rows pieces": 1000 * number,
            "bytes pieces": 2**20 * number,
        }
        for number in range(700)
    ]
    picture = chart.draw(rows, [(20.0, "broker <killed>"), (40.0, "")])
    assert len(picture) < 150_000
    root = ET.fromstring(picture)
    texts = [element.text for element in root.iter() if element.text]
    for label in (
        "broker <killed>",
        "daemon 70",
        "MariaDB 799",
        "lag 0.3",
        "waiting 699",
    ):
        assert label in texts


def test_the_ledger_sees_what_is_missing_and_what_comes(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/db"
    load = Load(100, 3, 0, 1, "seed")
    now = time.time_ns() // 1000 - 5_000_000
    points = [
        Notification.from_payload(decode_body(encode(event.make(0)).encode()))
        for event in load.events(0, now, lambda: 3)
        if event.make
    ]
    with contextlib.closing(get_storage(url)) as storage:
        storage.prepare()
        storage.write(points[:-1])
        ledger = Ledger(url, after=0)
        ledger.look()
        assert str(ledger).startswith("traces seen whole 2, never whole 1;")
        storage.write(points[-1:])
        ledger.look()
    assert str(ledger) == (
        "traces seen whole 3, never whole 0; of 1 every notification counted,"
        " 0 too many"
    )
