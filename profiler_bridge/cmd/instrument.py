# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""profiler-bridge-instrument: runs a program with bridge:// registered."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Its sitecustomize.py runs at the start of the program's Python.
FOLDER = Path(__file__).with_name("instrumented")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="profiler-bridge-instrument",
        description="Run COMMAND, a program that uses osprofiler, so that it"
        " knows the connection string bridge://. It has to use the Python"
        " that profiler_bridge is installed for.",
    )
    parser.add_argument("command", metavar="COMMAND")
    parser.add_argument(
        "args", metavar="...", nargs=argparse.REMAINDER, help="its arguments"
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
