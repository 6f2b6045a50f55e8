# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-instrument: runs a program with bridge:// registered."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import metadata
from pathlib import Path

# Its sitecustomize.py runs at the start of the program's Python.
FOLDER = Path(__file__).with_name("instrumented")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="profiler-bridge-instrument",
        description="Run COMMAND, a program that uses osprofiler, so that it"
        " knows the connection string bridge://, and keeps the traces of its"
        " requests apart. It has to use the Python that profiler_bridge is"
        " installed for.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {metadata.version('profiler_bridge')}",
        help="Show the version and exit.",
    )
    parser.add_argument("command", metavar="COMMAND", help="The program.")
    parser.add_argument(
        "args", metavar="...", nargs=argparse.REMAINDER, help="Its arguments."
    )
    args = parser.parse_args()
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(FOLDER), *([others] if others else [])]
    )
    # What is not written yet would be lost.
    sys.stdout.flush()
    try:
        os.execvp(args.command, [args.command, *args.args])  # noqa: S606
    except OSError as error:
        print(
            f"profiler-bridge-instrument: {args.command}: {error.strerror}",
            file=sys.stderr,
        )
        return 127 if isinstance(error, FileNotFoundError) else 126
