# SPDX-License-Identifier: Apache-2.0

"""The sample configuration: ``python -m tests.sample`` writes it anew.

oslo-config-generator puts sections in the order of the alphabet, after oslo's
own options of logging. Here the project's stand first.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "etc" / "bridge.conf"
#: The project's sections, in the order in which an operator needs them.
OWN = [
    "osprofiler",
    "bridge",
    "retention:name",
    "api",
    "forward",
    "settled",
]
_HEAD = """\
# A bridge needs two options: connection_string in [osprofiler], and
# transport_url in [DEFAULT]. The project's own sections come first, then those
# of the libraries for logging and messaging.

"""


def sections(text: str) -> list[str]:
    """The sections of a configuration, each with its name in brackets."""
    return re.findall(r"(?ms)^\[.*?(?=^\[|\Z)", text)


def generate() -> str:
    """The sample as the options in the code have it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bridge.conf"
        subprocess.run(
            [
                str(Path(sys.executable).with_name("oslo-config-generator")),
                *("--config-file", "etc/config-generator.conf"),
                *("--output-file", str(path)),
            ],
            check=True,
            capture_output=True,
            cwd=ROOT,
        )
        text = path.read_text()
    by_name = {
        part[1:].partition("]")[0]: part.strip() for part in sections(text)
    }
    own = [by_name.pop(name) for name in OWN]
    return _HEAD + "\n\n\n".join([*own, *by_name.values()]) + "\n"


if __name__ == "__main__":
    SAMPLE.write_text(generate())
