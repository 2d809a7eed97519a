"""How the benchmarks beside this file tell what they found: rows of a Markdown table, and lines of JSON for report.py."""
import json
import os
import sys


class Results:
    """With `quick`, figures are told and not judged."""

    def __init__(self, path="", quick=False):
        self.path, self.quick, self.missed = path, quick, False
        print(f"<!-- load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores -->\n"
              "| What | Measured | Must reach |\n|---|---|---|", flush=True)

    def row(self, what, measured, limit, unit="", at_least=False, note=""):
        """`unit` is empty for ours / a peer's, measured in the same run; `note` says what stands behind the figure."""
        reached = measured >= limit if at_least else measured <= limit
        self.missed |= not reached and not self.quick
        row = {"what": what, "measured": round(measured, 4), "limit": limit, "unit": unit, "at_least": at_least,
               "note": note, "load": round(os.getloadavg()[0], 1)}
        print(f"| {what} | {figure(measured, unit)}{f' ({note})' if note else ''} | {must_reach(row)} |"
              f"{'' if reached or self.quick else ' **missed**'}", flush=True)
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def end(self):
        sys.exit(1 if self.missed else 0)


def figure(value, unit):
    return f"{value:.3g}" + (f" {unit}" if unit else "")


def must_reach(row):
    return f"{'>=' if row['at_least'] else '<='} {figure(row['limit'], row['unit'])}"


def add_flags(parser):
    parser.add_argument("--bin", default="build/release/bin")
    parser.add_argument("--json", default="", help="file that the results are added to, for report.py")
    parser.add_argument("--quick", action="store_true", help="for tests: everything runs, nothing is judged")
