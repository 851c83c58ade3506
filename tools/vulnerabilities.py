"""`python -m tools.vulnerabilities LOCK`: fails if a locked package has a known vulnerability.

pip-audit asks OSV for each package of the lock. Where OSV cannot be reached there is nothing to
judge: that is said in one line, and is no failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any


def known(report: dict[str, Any]) -> Iterator[str]:
    """One line for each vulnerability in pip-audit's report."""
    for package in report["dependencies"]:
        for each in package.get("vulns", ()):
            fixed = ", ".join(each["fix_versions"]) or "no version yet"
            names = ", ".join([each["id"], *each["aliases"]])
            yield f"{package['name']} {package['version']}: {names}; fixed in {fixed}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.vulnerabilities", description=__doc__)
    parser.add_argument("lock", help="a requirements file with a hash for each package")
    parser.add_argument("--osv-url", default="https://api.osv.dev/v1/query")
    options = parser.parse_args()
    audited = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--requirement", options.lock, "--disable-pip",
         "--require-hashes", "--vulnerability-service", "osv", "--osv-url", options.osv_url,
         "--format", "json", "--progress-spinner", "off"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        report = json.loads(audited.stdout)
    except ValueError:
        reason = audited.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        print(f"vulnerabilities: not audited, OSV cannot be asked from here ({reason[0][:150]})")
        return
    found = list(known(report))
    for line in found:
        print(line, file=sys.stderr)
    if found:
        sys.exit(f"vulnerabilities: {len(found)} known in {options.lock}: lock newer versions")
    print(f"vulnerabilities: none known in the {len(report['dependencies'])} packages locked")


if __name__ == "__main__":
    main()
