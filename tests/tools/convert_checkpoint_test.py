#!/usr/bin/env python3
"""tools/convert_checkpoint.py on the bundled model, in every layout that it converts. Needs torch."""
import contextlib
import hashlib
import io
import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint_layouts as layouts  # noqa: E402
import convert_checkpoint  # noqa: E402
import ldm_names  # noqa: E402

WEIGHTS = layouts.bundled_weights()


class ConvertCheckpoint(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.source = self.folder / "source"
        self.converted = self.folder / "converted"
        self.output = ""

    def convert(self, source, *more):
        """None, or what it ended with."""
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                convert_checkpoint.main([str(source), str(self.converted), *map(str, more)])
        except SystemExit as end:
            return str(end.code)
        finally:
            self.output = output.getvalue()
        return None

    def assert_holds(self, weights):
        for component, expected in weights.items():
            got = {}
            for path in (self.converted / component).glob("*.safetensors"):
                got |= layouts.read_safetensors(path)
            self.assertEqual(expected.keys(), got.keys(), component)
            for name, tensor in expected.items():
                self.assertTrue(torch.equal(tensor, got[name]), name)

    def read_config(self, name):
        return json.loads((self.converted / name).read_text())

    def test_tensors_are_the_same_without_position_ids(self):
        layouts.write_pickled_folder(self.source, layouts.with_old_names(WEIGHTS))
        self.assertIsNone(self.convert(self.source))
        expected = layouts.with_old_names(WEIGHTS)
        self.assert_holds({component: {name: tensor for name, tensor in tensors.items() if "position_ids" not in name}
                           for component, tensors in expected.items()})

    def test_shards_stay_shards(self):
        layouts.write_pickled_folder(self.source, WEIGHTS, sharded=True)
        self.assertIsNone(self.convert(self.source))
        self.assert_holds(WEIGHTS)
        index = self.read_config("unet/diffusion_pytorch_model.safetensors.index.json")
        self.assertEqual(index["weight_map"].keys(), WEIGHTS["unet"].keys())
        self.assertFalse(list(self.converted.rglob("*.bin*")))

    def test_a_missing_shard_is_named(self):
        layouts.write_pickled_folder(self.source, WEIGHTS, sharded=True)
        (self.source / "vae/diffusion_pytorch_model-00002-of-00002.bin").unlink()
        self.assertIn("diffusion_pytorch_model-00002-of-00002.bin", self.convert(self.source))

    def test_variants_of_pickles_are_found(self):
        layouts.write_pickled_folder(self.source, WEIGHTS)
        for path in self.source.rglob("*.bin"):
            path.rename(path.with_suffix(".fp16.bin"))
        self.assertIsNone(self.convert(self.source))
        self.assert_holds(WEIGHTS)

    def test_configs_are_copied_and_the_manifest_holds(self):
        layouts.write_pickled_folder(self.source, WEIGHTS)
        self.assertIsNone(self.convert(self.source))
        manifest = self.read_config("manifest.json")
        self.assertEqual(len(manifest), 11)
        for name, digest in manifest.items():
            self.assertEqual(hashlib.sha256((self.converted / name).read_bytes()).hexdigest(), digest, name)
        self.assertEqual(self.read_config("unet/config.json"), json.loads((layouts.MODEL / "unet/config.json").read_text()))

    def test_the_old_revision_becomes_the_native_pipeline(self):
        layouts.write_old_revision(self.source, WEIGHTS)
        self.assertIsNone(self.convert(self.source))
        index = self.read_config("model_index.json")
        self.assertEqual(index["_class_name"], "StableDiffusionImageVariationPipeline")
        self.assertEqual(index["image_encoder"], ["transformers", "CLIPVisionModelWithProjection"])
        self.assertEqual(self.read_config("scheduler/scheduler_config.json")["steps_offset"], 1)
        config = self.read_config("image_encoder/config.json")
        self.assertEqual((config["model_type"], config["hidden_size"], config["projection_dim"]), ("clip_vision_model", 128, 192))
        self.assert_holds({"image_encoder": WEIGHTS["image_encoder"]})

    def convert_ldm(self, *more):
        layouts.write_ldm_checkpoint(self.folder / "model.ckpt", WEIGHTS)
        return self.convert(self.folder / "model.ckpt", "--like", layouts.MODEL, *more)

    def test_an_ldm_checkpoint_gives_back_the_same_tensors(self):
        self.assertIsNone(self.convert_ldm())
        self.assert_holds({component: WEIGHTS[component] for component in ("unet", "vae", "image_encoder")})
        self.assertEqual(self.read_config("model_index.json")["safety_checker"], [None, None])
        self.assertEqual(self.read_config("vae/config.json")["scaling_factor"], 0.40405)
        self.assertIn("--ema", self.output)

    def test_an_ldm_checkpoint_takes_a_safety_checker(self):
        self.assertIsNone(self.convert_ldm("--safety-checker", layouts.MODEL / "safety_checker"))
        self.assertEqual(self.read_config("model_index.json")["safety_checker"][1], "StableDiffusionSafetyChecker")
        self.assertTrue((self.converted / "safety_checker/model.safetensors").is_file())

    def test_averaged_weights_are_taken_on_request(self):
        self.assertIsNone(self.convert_ldm("--ema"))
        self.assert_holds({"unet": {name: tensor + 1 for name, tensor in WEIGHTS["unet"].items()}})

    def test_an_ldm_file_without_like_gets_the_published_configs(self):
        layouts.write_ldm_checkpoint(self.folder / "model.ckpt", WEIGHTS)
        self.assertIsNone(self.convert(self.folder / "model.ckpt"))
        self.assertEqual(self.read_config("unet/config.json")["block_out_channels"], [320, 640, 1280, 1280])

    def test_an_ldm_safetensors_file_is_converted_too(self):
        layouts.write_ldm_checkpoint(self.folder / "model.ckpt", WEIGHTS)
        state = torch.load(self.folder / "model.ckpt")["state_dict"]
        convert_checkpoint.write_safetensors(self.folder / "model.safetensors", state)
        self.assertIsNone(self.convert(self.folder / "model.safetensors", "--like", layouts.MODEL))
        self.assert_holds({"unet": WEIGHTS["unet"]})

    def test_tensors_that_nobody_knows_are_named(self):
        layouts.write_ldm_checkpoint(self.folder / "model.ckpt", WEIGHTS)
        state = torch.load(self.folder / "model.ckpt")["state_dict"]
        torch.save({"state_dict": {**state, "control_model.x": torch.zeros(1), "first_stage_model.y.z": torch.zeros(1)}},
                   self.folder / "model.ckpt")
        why = self.convert(self.folder / "model.ckpt")
        self.assertIn("control_model.x", why)
        self.assertIn("first_stage_model.y.z", why)
        self.assertFalse(self.converted.exists())

    def test_a_checkpoint_of_something_else_is_named(self):
        torch.save({"layer.weight": torch.zeros(1)}, self.folder / "model.ckpt")
        self.assertIn("not a checkpoint of image variations", self.convert(self.folder / "model.ckpt"))

    def test_code_in_a_pickle_is_not_run(self):
        class Evil:
            def __reduce__(self):
                return (print, ("executed",))
        layouts.write_pickled_folder(self.source, WEIGHTS)
        torch.save({"weight": Evil()}, self.source / "unet" / "diffusion_pytorch_model.bin")
        why = self.convert(self.source)
        self.assertIn("unet/diffusion_pytorch_model.bin: not converted: it needs print, which is code", why)
        self.assertNotIn("executed", self.output)
        self.assertFalse(self.converted.exists())

    def test_types_that_the_server_does_not_read_are_named(self):
        layouts.write_pickled_folder(self.source, WEIGHTS)
        torch.save({"a.weight": torch.zeros(2, dtype=torch.float64)}, self.source / "vae/diffusion_pytorch_model.bin")
        self.assertIn("vae: a.weight is torch.float64", self.convert(self.source))

    def test_a_git_lfs_pointer_is_named(self):
        layouts.write_pickled_folder(self.source, WEIGHTS)
        (self.source / "vae/diffusion_pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        self.assertIn("git lfs pull", self.convert(self.source))

    def test_what_is_not_converted_is_named(self):
        layouts.write_pickled_folder(self.source, WEIGHTS)
        (self.source / "unet/diffusion_pytorch_model.bin").rename(self.source / "unet/weights.bin")
        self.assertIn("has weights.bin", self.convert(self.source))

    def test_an_existing_folder_is_not_overwritten(self):
        self.converted.mkdir()
        self.assertIn("is there already", self.convert(layouts.MODEL))


class LdmNames(unittest.TestCase):
    def test_names_of_stable_diffusion_1_are_the_published_ones(self):
        """Four levels of two layers, an attention before the upsampler in two of them."""
        names = {f"{block}.weight" for block in ("output_blocks.2.0.in_layers.0", "output_blocks.2.1.conv", "output_blocks.5.1.norm",
                                                 "output_blocks.5.2.conv", "output_blocks.8.2.conv", "output_blocks.11.1.norm",
                                                 "input_blocks.3.0.op", "input_blocks.6.0.op", "input_blocks.9.0.op",
                                                 "input_blocks.11.0.in_layers.2")}
        modules = ldm_names.unet_modules(names)
        for old, new in {"output_blocks.2.1.conv": "up_blocks.0.upsamplers.0.conv", "output_blocks.8.2.conv": "up_blocks.2.upsamplers.0.conv",
                         "output_blocks.5.1": "up_blocks.1.attentions.2", "output_blocks.11.1": "up_blocks.3.attentions.2",
                         "input_blocks.9.0.op": "down_blocks.2.downsamplers.0.conv",
                         "input_blocks.11.0.in_layers.2": "down_blocks.3.resnets.1.conv1"}.items():
            self.assertEqual(modules[old], new)


if __name__ == "__main__":
    unittest.main()
