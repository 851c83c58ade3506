"""`python -m tools.vulnerabilities LOCK…`: fails if a locked package has a known vulnerability.

pip-audit asks OSV for each package of the locks. Where OSV cannot be reached there is nothing to
judge: that is said in one line, and is no failure. Whatever else keeps it from judging is one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

#: How pip-audit ends when it gets no answer.
_NO_ANSWER = re.compile(
    r"requests\.exceptions\.(Connection|Proxy)Error|requests\.exceptions\.\w*Timeout"
    r"|.*Could not connect to OSV"
)


def known(report: dict[str, Any]) -> Iterator[str]:
    """One line for each vulnerability in pip-audit's report."""
    for package in report["dependencies"]:
        for each in package.get("vulns", ()):
            fixed = ", ".join(each["fix_versions"]) or "no version yet"
            names = ", ".join([each["id"], *each["aliases"]])
            yield f"{package['name']} {package['version']}: {names}; fixed in {fixed}"


def pip_audit(locks: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip_audit", *(f"--requirement={lock}" for lock in locks),
         "--disable-pip", "--require-hashes", "--progress-spinner", "off", *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """The last line that a failed run said; empty if it ended well."""
    said = ended.stderr.strip().splitlines() or ["it said nothing"]
    return said[-1][:300] if ended.returncode else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.vulnerabilities", description=__doc__)
    parser.add_argument("locks", nargs="+", help="requirements files, a hash for each package")
    parser.add_argument("--osv-url", default="https://api.osv.dev/v1/query")
    options = parser.parse_args()
    osv = ("--vulnerability-service", "osv", "--osv-url", options.osv_url, "--format", "json")
    audited = pip_audit(options.locks, *osv)
    try:
        report = json.loads(audited.stdout)
    except ValueError:
        reason = next(filter(_NO_ANSWER.match, audited.stderr.splitlines()), None)
        # It reads the locks as it goes: what it has not come to may be wrong all the same.
        failure = complaint(pip_audit(options.locks, "--dry-run") if reason else audited)
        if failure or not reason:
            sys.exit(f"vulnerabilities: pip-audit failed: {failure}")
        print(f"vulnerabilities: not audited, OSV cannot be asked from here ({reason})"[:250])
        return
    found = list(known(report))
    for line in found:
        print(line, file=sys.stderr)
    if found:
        sys.exit(f"vulnerabilities: {len(found)} known in {', '.join(options.locks)}: lock newer")
    print(f"vulnerabilities: none known in the {len(report['dependencies'])} packages locked")


if __name__ == "__main__":
    main()
