"""Run what failed in the last run of tox once more, by itself.

Only a few tests: many that fail, or anything else that does, is no accident.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

AT_MOST = 5


def failed_tests(environment: str) -> list[str]:
    """Return the names of what failed in an environment of tox."""
    path = Path(".tox", environment, "pytest/v/cache/lastfailed")
    return list(json.loads(path.read_text())) if path.exists() else []


def main() -> None:
    results = json.loads(Path(os.environ["TOX_RESULT_JSON"]).read_text())
    failed = {
        environment: failed_tests(environment)
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
