"""What an image is made of, and its SBOM: sbom_test.py VENV BIN, the wheels and the programs of a release build.

deploy/collect_runtime.sh is run as an image's build runs it; the validator is SPDX's own.
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

ROOT = Path(__file__).resolve().parent.parent.parent
VENV, BIN = (sys.argv.pop(1) for _ in range(2))
SBOM = "usr/share/image-variations/sbom.spdx.json"


def check(root):
    return subprocess.run([ROOT / "tools" / "check_sbom.py", root], capture_output=True, text=True)


class Sbom(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.runtime, cls.image = Path(folder) / "runtime", Path(folder) / "image"
        subprocess.run([ROOT / "deploy" / "collect_runtime.sh", cls.runtime, VENV, BIN], check=True, stdout=subprocess.DEVNULL)
        for layer in ("system", "libtorch", "programs"):
            subprocess.run(["cp", "-al", f"{cls.runtime}/{layer}/.", cls.image], check=True)
        cls.sbom = json.loads((cls.image / SBOM).read_text())

    def test_it_is_valid_spdx(self):
        document = parse_file(str(self.image / SBOM))
        self.assertEqual([m.validation_message for m in validate_full_spdx_document(document, "SPDX-2.3")], [])

    def test_everything_has_a_version_and_sums(self):
        names = {p["name"]: p for p in self.sbom["packages"]}
        for name in ("image-variations", "image-variations-bundled-model", "ca-certificates", "libc6", "torch"):
            self.assertIn(name, names)
        for item in names.values():
            self.assertRegex(item["versionInfo"], r"^[0-9]")
            self.assertRegex(item["checksums"][0]["checksumValue"], "^[0-9a-f]{64}$")
        torch = next(f for f in self.sbom["files"] if f["fileName"].endswith("/libtorch_cpu.so"))
        self.assertEqual([c["algorithm"] for c in torch["checksums"]], ["SHA1", "SHA256"])

    def test_the_check_of_an_image_compares_every_file(self):
        run = check(self.image)
        self.assertEqual(run.returncode, 0, run.stderr)
        for name in ("usr/share/image-variations/model/model_index.json", "etc/ssl/certs/ca-certificates.crt",
                     "usr/lib/image-variations/libc10.so", "etc/passwd"):
            with self.subTest(name):
                path = self.image / name
                kept = path.read_bytes()
                path.unlink()  # it is a link to the runtime's
                path.write_bytes(kept + b" ")
                self.assertIn(f"wrong about ./{name}", check(self.image).stderr)
                path.unlink()
                self.assertIn(f"wrong about ./{name}", check(self.image).stderr)
                path.write_bytes(kept)
        stranger = self.image / "usr/bin/stranger"
        stranger.write_text("")
        self.assertIn("wrong about ./usr/bin/stranger", check(self.image).stderr)
        stranger.unlink()
        self.assertEqual(check(self.image).returncode, 0)

    def test_the_authorities_are_those_of_debian_alone(self):
        listed = subprocess.run(["dpkg", "-L", "ca-certificates"], check=True, capture_output=True, text=True).stdout
        begin = "-----BEGIN CERTIFICATE-----"
        theirs = {c.strip() for path in re.findall(r"^/.*\.crt$", listed, re.M)
                  for c in Path(path).read_text().split(begin) if c.strip()}
        ours = [c.strip() for c in (self.image / "etc/ssl/certs/ca-certificates.crt").read_text().split(begin) if c.strip()]
        self.assertGreater(len(ours), 100)
        self.assertEqual(set(ours), theirs)

    def test_the_programs_need_nothing_else(self):
        self.assertLess(sum(p.stat().st_size for p in (self.runtime / "programs").rglob("*") if p.is_file()), 40_000_000)
        self.assertIsNone(shutil.which("sh", path=f"{self.image}/usr/bin"))


if __name__ == "__main__":
    unittest.main()
