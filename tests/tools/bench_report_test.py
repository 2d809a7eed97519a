#!/usr/bin/env python3
"""tools/bench/report.py on made-up results: what its table and its chart say."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

REPORT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "bench", "report.py")


def row(what, measured, limit, at_least=False):
    return {"what": what, "measured": measured, "limit": limit, "unit": "", "at_least": at_least, "note": "why", "load": 0.1}


class Report(unittest.TestCase):
    def report(self, *rows, page="before\n<!-- tools/bench/report.py: begin -->\nold\n<!-- end -->\nafter\n"):
        with tempfile.TemporaryDirectory() as folder:
            names = {name: os.path.join(folder, name) for name in ("results", "page", "chart")}
            with open(names["results"], "w", encoding="utf-8") as file:
                file.writelines(json.dumps(one) + "\n" for one in rows)
            with open(names["page"], "w", encoding="utf-8") as file:
                file.write(page)
            done = subprocess.run([sys.executable, REPORT, names["results"], "--page", names["page"], "--chart",
                                   names["chart"]], stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                return done.stderr, None
            with open(names["page"], encoding="utf-8") as file:
                return file.read(), ElementTree.parse(names["chart"]).getroot()

    def test_replaces_only_what_is_between_the_marks(self):
        page, _ = self.report(row("a", 0.5, 1))
        self.assertTrue(page.startswith("before\n<!-- tools/bench/report.py: begin -->\n| What"))
        self.assertTrue(page.endswith("<!-- end -->\nafter\n"))
        self.assertNotIn("old", page)

    def test_says_what_missed_its_mark_in_either_direction(self):
        page, _ = self.report(row("less", 0.5, 1), row("too much", 2, 1), row("more", 4, 3, True), row("too little", 2, 3, True))
        missed = [line.split(" | ")[0] for line in page.splitlines() if "missed" in line]
        self.assertEqual(missed, ["| too much", "| too little"])

    def test_the_last_of_equal_rows_counts(self):
        page, _ = self.report(row("a", 2, 1), row("a", 0.25, 1))
        self.assertIn("| a | 0.25 | <= 1 |", page)
        self.assertEqual(page.count("| a |"), 1)

    def test_bars_are_as_long_as_the_share_of_the_mark(self):
        _, chart = self.report(row("half", 0.5, 1), row("more is better", 6, 3, True), row("far off", 99, 1))
        bars = [float(bar.get("width")) for bar in chart.iter("{http://www.w3.org/2000/svg}rect")][1:]
        self.assertAlmostEqual(bars[0], bars[1])
        self.assertAlmostEqual(bars[0] * 4, bars[2])  # ends at the edge

    def test_a_page_without_a_place_is_an_error(self):
        message, _ = self.report(row("a", 1, 1), page="nothing\n")
        self.assertIn("has no place", message)


if __name__ == "__main__":
    unittest.main()
