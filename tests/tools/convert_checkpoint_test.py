#!/usr/bin/env python3
"""tools/convert_checkpoint.py on the bundled model, pickled for the occasion. Needs torch."""
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo" / "model"


def read_safetensors(path):
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    types = {"F16": torch.float16, "F32": torch.float32}
    tensors = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            raw = bytearray(data[begin + first:begin + last])
            tensors[name] = torch.frombuffer(raw, dtype=types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def pickle_folder(folder):
    """The bundled model as checkpoints of 2022 are: .bin files, with position_ids in the towers."""
    shutil.copytree(MODEL, folder)
    for path in folder.rglob("*.safetensors"):
        tensors = read_safetensors(path)
        name = "pytorch_model.bin" if path.name == "model.safetensors" else "diffusion_pytorch_model.bin"
        if name == "pytorch_model.bin":
            tensors["vision_model.embeddings.position_ids"] = torch.arange(65).reshape(1, 65)
        torch.save(tensors, path.with_name(name))
        path.unlink()


def convert(source, target):
    return subprocess.run([sys.executable, ROOT / "tools" / "convert_checkpoint.py", source, target],
                          capture_output=True, text=True)


class ConvertCheckpoint(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.pickled = self.folder / "pickled"
        pickle_folder(self.pickled)
        self.converted = self.folder / "converted"

    def test_tensors_are_the_same_without_position_ids(self):
        self.assertEqual(convert(self.pickled, self.converted).returncode, 0)
        for path in MODEL.rglob("*.safetensors"):
            expected, got = read_safetensors(path), read_safetensors(self.converted / path.relative_to(MODEL))
            self.assertEqual(expected.keys(), got.keys(), path)
            for name, tensor in expected.items():
                self.assertTrue(torch.equal(tensor, got[name]), name)

    def test_configs_are_copied_and_the_manifest_holds(self):
        self.assertEqual(convert(self.pickled, self.converted).returncode, 0)
        manifest = json.loads((self.converted / "manifest.json").read_text())
        self.assertIn("unet/config.json", manifest)
        for name, digest in manifest.items():
            self.assertEqual(hashlib.sha256((self.converted / name).read_bytes()).hexdigest(), digest, name)

    def test_the_text_half_of_a_full_clip_model_is_left_out(self):
        path = self.pickled / "image_encoder" / "pytorch_model.bin"
        torch.save({**torch.load(path), "text_model.x": torch.zeros(2), "logit_scale": torch.zeros(())}, path)
        self.assertEqual(convert(self.pickled, self.converted).returncode, 0)
        names = read_safetensors(self.converted / "image_encoder" / "model.safetensors")
        self.assertFalse([name for name in names if name.startswith(("text", "logit"))])

    def test_code_in_a_pickle_is_not_run(self):
        class Evil:
            def __reduce__(self):
                return (print, ("executed",))
        torch.save({"weight": Evil()}, self.pickled / "unet" / "diffusion_pytorch_model.bin")
        run = convert(self.pickled, self.converted)
        self.assertNotEqual(run.returncode, 0)
        self.assertNotIn("executed", run.stdout)
        self.assertFalse(self.converted.exists())

    def test_what_is_not_converted_is_named(self):
        component = self.pickled / "unet"
        (component / "diffusion_pytorch_model.bin").rename(component / "weights.bin")
        run = convert(self.pickled, self.converted)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("weights.bin", run.stderr)

    def test_an_existing_folder_is_not_overwritten(self):
        self.converted.mkdir()
        self.assertIn("is there already", convert(self.pickled, self.converted).stderr)


if __name__ == "__main__":
    unittest.main()
