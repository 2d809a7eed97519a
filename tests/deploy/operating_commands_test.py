"""Every command of docs/operating.md: operating_commands_test.py SERVER CLI FAKE_SERVER, with tools/setup.sh deploy's Python.

Commands stand in indented blocks. A block is run as it stands, in a folder that has what it names, unless its first line is
`# needs WHAT` or `# run by SCRIPT` (or both, `; ` between). Then the script must run these commands; and of commands that
need a cluster, what needs none is run: secrets are made as dry runs, manifests validated, values rendered.
"""
import fcntl
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
PAGE = (ROOT / "docs" / "operating.md").read_text()
NEEDS = {"a cluster", "a registry", "a container runtime", "the network", "root"}
PROGRAMS = r"(?:[A-Z_]+=\S+ )*(?:tools/\S+|ctest|cmake|helm|kubectl|docker|buildah|curl|image-variations\S*) "
# So short and so few that it is done soon; a busy machine may say INVALID.
BENCH = "--duration 1s --min-duration 1s --percentile 50"


def blocks():
    """Marks and commands of each indented block: {"needs": [...], "by": path}, [line, ...]."""
    text = re.sub(r"^( *)```.*?^ *```$", "", PAGE, flags=re.S | re.M)
    for block in re.findall(r"(?:^ {4,}\S.*\n)+", text, re.M):
        lines = [line.strip() for line in block.splitlines()]
        marks = {"needs": [], "by": None}
        if lines[0].startswith("# "):
            for mark in lines.pop(0)[2:].split("; "):
                if mark.startswith("run by "):
                    marks["by"] = mark.removeprefix("run by ")
                else:
                    marks["needs"] = re.split(", | and ", mark.removeprefix("needs "))
        yield marks, lines


def values_of_the_page():
    """The chart's values among the YAML blocks."""
    found = [yaml.safe_load(re.sub(r"^ {3}", "", text, flags=re.M)) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]
    return next(values for values in found if "image" in values)


def merged(*sets):
    result = {}
    for values in sets:
        for key, value in values.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def set_values(text):
    """--set a.b=1,c=x"""
    result = {}
    for pair in text.split(","):
        path, value = pair.split("=")
        for key in reversed(path.split(".")):
            value = {key: value if isinstance(value, dict) else yaml.safe_load(value)}
        result = merged(result, value)
    return result


class Stage:
    """A folder with what the commands name, in which their programs are found."""

    def __init__(self, folder):
        self.folder = Path(folder)
        for name in ("tools", "deploy", "demo", ".venv"):
            (self.folder / name).symlink_to(ROOT / name)
        for name in ("DIR", "CHECKPOINT"):
            (self.folder / name).symlink_to(ROOT / "demo" / "model")
        (self.folder / "cat.png").symlink_to(ROOT / "demo" / "pictures" / "penguin.png")
        (self.folder / "mine.yaml").write_text(yaml.safe_dump(values_of_the_page()))
        (self.folder / "tokens").write_text("")
        for name in ("server", "clients", "ca", "keys"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                            f"{name}.key", "-out", f"{name}.pem", "-subj", "/CN=localhost"], check=True, cwd=self.folder,
                           capture_output=True)
        programs = self.folder / "bin"
        programs.mkdir()
        (programs / "image-variations-server").symlink_to(SERVER)
        self.script(programs / "image-variations", f"""
            [ "$1" = bench ] || exec {CLI} "$@"
            code=0
            {CLI} "$@" {BENCH} >bench.txt || code=$?
            cat bench.txt
            [ "$code" -le 1 ] && grep -q "^history: .* once" bench.txt
            """)
        (programs / "kubectl").symlink_to(BIN / "kubectl")
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "IMAGE_VARIATIONS_THREADS": "1",
                            "IMAGE_VARIATIONS_LOG_LEVEL": "error"}

    @staticmethod
    def script(path, text):
        path.write_text("#!/usr/bin/env bash\nset -uo pipefail\n" + text)
        path.chmod(0o755)

    def run(self, command):
        return subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True)

    def serve(self, command):
        """Starts a server until it listens, and ends it."""
        with subprocess.Popen(shlex.split(command), cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
                              text=True) as server:
            listens = server.stdout.readline().startswith("listening on ")
            server.send_signal(signal.SIGTERM)
            return listens and server.wait(60) == 0


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stage = Stage(cls.enterClassContext(tempfile.TemporaryDirectory()))

    def test_what_is_not_marked_runs(self):
        ran = 0
        for marks, lines in blocks():
            if marks["needs"] or marks["by"]:
                continue
            if lines[0].startswith("image-variations-server"):
                for line in lines:
                    # A synopsis: what is optional too.
                    line = re.sub(r"[\[\]]|\.\.\.", "", line).replace("HOST:PORT", "127.0.0.1:0")
                    with self.subTest(line):
                        self.assertTrue(self.stage.serve(line))
            else:
                with self.subTest(lines[0]):
                    self.run_block(lines)
            ran += len(lines)
        self.assertGreaterEqual(ran, 10)

    def run_block(self, lines):
        server = None
        if any(line.startswith("image-variations ") for line in lines):
            server = subprocess.Popen([FAKE, "20ms", "--default-steps", "5", "--log-level", "error"], stdout=subprocess.PIPE, text=True)
            self.assertTrue(server.stdout.readline().startswith("listening on 127.0.0.1:50051"))
        try:
            run = self.stage.run("\n".join(lines))
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        finally:
            if server:
                with server:
                    server.terminate()

    def test_marks_say_what_is_missing_or_who_runs_it(self):
        tests = "".join(p.read_text() for p in (ROOT / "tests").rglob("CMakeLists.txt"))
        set_up = (ROOT / "Makefile").read_text()
        for marks, lines in blocks():
            for need in marks["needs"]:
                self.assertTrue(need in NEEDS or re.fullmatch(r"(cuda )?\d+ GB", need), need)
            if not marks["by"]:
                continue
            script = (ROOT / marks["by"]).read_text()
            for line in lines:
                with self.subTest(line):
                    words = [w for w in shlex.split(line) if not re.match("[A-Z_]+=", w)]
                    if words[0] == "ctest":
                        self.assertIn(words[words.index("-R") + 1].removeprefix("deploy/"), tests)
                    elif words[0] == "tools/setup.sh":
                        self.assertRegex(script + set_up, rf"tools/setup.sh ({words[1]}|\$@)|install {words[1]}\b|huggingface|hf")
                    else:
                        self.assertIn(words[0], script)

    def test_commands_in_the_text_are_those_of_the_table(self):
        text, table = PAGE.split("## What was shown")
        spans = [s for s in re.findall(r"`([^`\n]+)`", text) if re.match(PROGRAMS, s)]
        self.assertEqual([s for s in spans if not re.fullmatch("[a-z-]+ [a-z]+", s)], [])  # names of verbs
        tests = "".join(p.read_text() for p in (ROOT / "tests").rglob("CMakeLists.txt"))
        for command in re.findall(r"`([^`\n]+)` \|$", table, re.M):
            with self.subTest(command):
                for tool in re.findall(r"tools/\S+", command):
                    self.assertTrue((ROOT / tool).exists(), tool)
                for name in re.findall(r"-R deploy/(\w+)", command):
                    self.assertRegex(tests, rf"iv_deploy_test\({name}|image_\$")

    def test_of_what_needs_a_cluster_everything_else_is_run(self):
        seen = set()
        for marks, lines in blocks():
            for line in lines if "a cluster" in marks["needs"] else []:
                with self.subTest(line):
                    seen.add(self.check_without_cluster(line))
        self.assertLessEqual({"secret", "namespace", "-f", "-k", "upgrade"}, seen)

    def check_without_cluster(self, line):
        run = self.stage.run(f"true || {line.removesuffix('&')}")
        self.assertEqual(run.returncode, 0, run.stderr)
        words = shlex.split(line)
        if words[:2] == ["kubectl", "create"]:
            run = self.stage.run(line + " --dry-run=client -o yaml")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.validate(run.stdout)
            return words[2]
        if words[:2] == ["kubectl", "apply"] and "-k" in words:
            self.assertEqual(self.stage.run(f"kubectl kustomize {words[words.index('-k') + 1]}").returncode, 0)
            return "-k"
        if words[:2] == ["kubectl", "apply"]:
            self.validate((self.stage.folder / words[words.index("-f") + 1]).read_text())
            return "-f"
        if words[:2] == ["helm", "upgrade"]:
            self.render(words)
            return "upgrade"
        return words[1]

    def validate(self, text):
        for item in yaml.safe_load_all(text):
            for version in ("1.33", "1.37"):
                kubernetes_validate.validate(item, version, strict=True)

    def render(self, words):
        files = [words[i + 1] for i, word in enumerate(words) if word == "-f"]
        values = [yaml.safe_load((self.stage.folder / name).read_text()) for name in files or [
            "deploy/chart/values/production.yaml", "mine.yaml"]]  # --reuse-values
        values += [set_values(words[i + 1]) for i, word in enumerate(words) if word == "--set"]
        with helm_python.Chart.load(ROOT / "deploy" / "chart") as chart:
            files = chart.render(merged(*values), name="pictures", namespace="variations")
        deployment = yaml.safe_load(next(t for n, t in files.items() if n.endswith("deployment.yaml")))
        self.assertEqual(deployment["metadata"]["name"], "pictures-image-variations", "as the page names it")
        self.assertTrue(deployment["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example/"))


def in_a_network_of_its_own():
    """The commands have fixed ports."""
    if os.environ.get("OWN_NETWORK"):
        with socket.socket() as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1 | 64))  # SIOCSIFFLAGS, up and running
        return
    options = ["--net"] if os.geteuid() == 0 else ["--net", "--map-root-user"]
    if subprocess.run(["unshare", *options, "true"], capture_output=True).returncode == 0:
        os.environ["OWN_NETWORK"] = "1"
        os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])


if __name__ == "__main__":
    in_a_network_of_its_own()
    SERVER, CLI, FAKE = (sys.argv.pop(1) for _ in range(3))
    unittest.main()
