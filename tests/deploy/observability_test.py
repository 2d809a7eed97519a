#!/usr/bin/env python3
"""Holds deploy/observability against a live server and promtool: observability_test.py BIN_FOLDER"""
import json
import re
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "deploy" / "observability"
BIN = Path(sys.argv.pop(1))
METRIC = re.compile(r"\b(?:image_variations|grpc_server|process)_\w+")


def promtool(*arguments, text=None):
    done = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, cwd=FOLDER)
    return done.returncode, done.stdout + done.stderr


def alerts():
    """name -> expression"""
    return dict(re.findall(r"- alert: (\w+)\n\s+expr: (.*)\n", (FOLDER / "alerts.yaml").read_text()))


def dashboard_queries():
    page = json.loads((FOLDER / "dashboard.json").read_text())
    targets = [target for panel in page["panels"] for target in panel.get("targets", [])]
    queries = [target["expr"] for target in targets + page["annotations"]["list"]]
    return [query.replace("$__rate_interval", "5m") for query in queries]


def variable_queries():
    page = json.loads((FOLDER / "dashboard.json").read_text())
    return [v["query"]["query"] for v in page["templating"]["list"] if v["type"] == "query"]


class Observability(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen(
            [BIN / "fake_server", "1ms", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        cls.addClassCleanup(cls.stop)
        address = cls.server.stdout.readline().split()[-1]
        metrics = cls.server.stdout.readline().split()[-1]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([BIN / "image-variations", "vary", ROOT / "demo" / "pictures" / "fox.png", "--server", address,
                            "--steps", "3", "-o", folder], check=True, capture_output=True)
        with urllib.request.urlopen(f"http://{metrics}/metrics") as reply:
            cls.scrape = reply.read().decode()
        cls.labels = {}  # of each sample name: the labels that it has
        for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", cls.scrape, re.M):
            cls.labels.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))

    @classmethod
    def stop(cls):
        cls.server.terminate()
        cls.server.wait()
        cls.server.stdout.close()

    def expect_known(self, query):
        """Every metric of the query was scraped, with every label that the query selects by."""
        names = METRIC.findall(query)
        self.assertTrue(names, query)
        for name in names:
            self.assertIn(name, self.labels, query)
        for name, selector in re.findall(r"(\w+)\{(.*?)\}", query):
            for label in re.findall(r"(\w+)=?[=~!]", selector):
                self.assertIn(label, self.labels[name] | {"job", "instance"}, query)

    def test_a_request_was_counted(self):
        self.assertEqual(re.findall(r'images_total{result="generated"} (\d+)', self.scrape), ["1"])

    def test_promtool_finds_no_fault_with_the_metrics(self):
        self.assertEqual(promtool("check", "metrics", text=self.scrape), (0, ""))

    def test_the_alerts_are_rules(self):
        self.assertEqual(promtool("check", "rules", "alerts.yaml")[0], 0)

    def test_each_alert_fires_and_keeps_quiet_when_it_should(self):
        code, said = promtool("test", "rules", "alerts_test.yaml")
        self.assertEqual(code, 0, said)
        tests = (FOLDER / "alerts_test.yaml").read_text()
        for name in alerts():
            self.assertIn(f"name: {name} fires", tests)
            self.assertIn(f"name: {name} keeps quiet", tests)

    def test_each_alert_has_its_place_on_the_page(self):
        page = (ROOT / "docs" / "alerts.md").read_text()
        self.assertEqual(re.findall(r"^### (\w+)$", page, re.M), list(alerts()))
        for name in alerts():
            self.assertIn(f"runbook: docs/alerts.md#{name.lower()}\n", (FOLDER / "alerts.yaml").read_text())

    def test_alerts_ask_for_metrics_that_exist(self):
        for expression in alerts().values():
            self.expect_known(expression)

    def test_the_dashboard_asks_for_metrics_that_exist(self):
        queries = dashboard_queries()
        self.assertGreater(len(queries), 30)
        for query in queries + variable_queries():
            self.expect_known(query)

    def test_the_dashboard_shows_every_metric_of_the_docs(self):
        shown = " ".join(dashboard_queries())
        table = subprocess.run([BIN / "fake_server", "0s", "--print-metrics-markdown"], check=True, capture_output=True,
                               text=True).stdout
        for name in METRIC.findall(table):
            if name != "image_variations_model_info":
                self.assertIn(name, shown)

    def test_the_dashboards_queries_are_promql(self):
        rules = "".join(f"    - record: a:{i}\n      expr: {json.dumps(query)}\n"
                        for i, query in enumerate(dashboard_queries()))
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("groups:\n- name: a\n  rules:\n" + rules)
            file.flush()
            code, said = promtool("check", "rules", file.name)
        self.assertEqual(code, 0, said)


if __name__ == "__main__":
    unittest.main()
