# SPDX-License-Identifier: Apache-2.0

"""Run what failed in the last run of tox once more, by itself.

Only a few tests: many that fail, or anything else that does, is no accident.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

AT_MOST = 5
# What pytest ends with where tests failed, and nothing else went wrong.
TESTS_FAILED = 1


def failed_tests(environment: str, result: dict[str, Any]) -> list[str]:
    """Return the names of what failed in an environment of tox.

    :param result: what tox tells of it
    :returns: nothing where something else than tests failed
    """
    codes = [command["retcode"] for command in result.get("test", ())]
    if codes[-1:] != [TESTS_FAILED]:
        return []  # what pytest remembers is of an earlier run
    path = Path(".tox", environment, "pytest/v/cache/lastfailed")
    return list(json.loads(path.read_text())) if path.exists() else []


def main() -> None:
    path = Path(os.environ["TOX_RESULT_JSON"])
    if not path.exists():
        sys.exit("tox failed before it ran anything")
    results = json.loads(path.read_text())
    # The next run may end before it has any.
    path.unlink()
    # Those that were not to run are there, without a result.
    failed = {
        environment: failed_tests(environment, result)
        for environment, result in results["testenvs"].items()
        if not result.get("result", {}).get("success", True)
    }
    if not failed:
        sys.exit("tox failed")
    for environment, tests in failed.items():
        if not 0 < len(tests) <= AT_MOST:
            sys.exit(f"{environment} failed")
    for environment, tests in failed.items():
        command = [Path(sys.executable).with_name("tox"), "-e", environment]
        command += ["--", "--numprocesses", "0", "--last-failed"]
        if subprocess.run(command).returncode:
            sys.exit(f"{environment} failed twice")
        sys.stderr.write(f"Failed once only, in {environment}:\n")
        sys.stderr.writelines(f"    {test}\n" for test in tests)


if __name__ == "__main__":
    main()
