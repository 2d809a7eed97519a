#!/usr/bin/env python3
"""Every layout of a checkpoint gives the bytes of the plain one, from the real server: checkpoint_layouts_test.py BIN_FOLDER

Makes all layouts of the bundled model, starts a server with each, and compares one picture's bytes. Needs torch.
"""
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import checkpoint_layouts as layouts  # noqa: E402
import convert_checkpoint  # noqa: E402
import torch  # noqa: E402
from server_process import running_server  # noqa: E402

PICTURE = layouts.ROOT / "demo" / "pictures" / "penguin.png"


def draw(bin_folder, model, flags=()):
    """The picture's bytes, from a server of its own."""
    with running_server(bin_folder, model, ["--threads", "1", *flags]) as (_, address):
        return subprocess.run([Path(bin_folder) / "image-variations", "vary", PICTURE, "--server", address, "--seed", "1",
                               "--steps", "3", "--no-metadata", "--quiet", "-o", "-"], check=True, capture_output=True).stdout


def convert(*arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        convert_checkpoint.main([str(argument) for argument in arguments])


def make_layouts(folder, weights):
    """Yields (what it is, what --model takes)."""
    plain = folder / "plain"
    layouts.write_safetensors_folder(plain, weights)
    yield "fp32, single files", plain
    layouts.write_safetensors_folder(folder / "fp16", weights, torch.float16, ".fp16")
    yield "fp16, variant fp16", folder / "fp16"
    layouts.write_sharded_folder(folder / "bf16", weights, torch.bfloat16, ".bf16")
    yield "bf16, variant bf16, shards", folder / "bf16"
    layouts.write_sharded_folder(folder / "shards", weights)
    yield "fp32, shards", folder / "shards"
    layouts.write_safetensors_folder(folder / "old", layouts.with_old_names(weights))
    yield "names of 2022", folder / "old"
    layouts.write_safetensors_folder(folder / "conv", layouts.with_old_names(weights, conv_attention=True), torch.float32)
    yield "the VAE's attention as 1x1 convolutions", folder / "conv"
    layouts.write_hub_cache(folder / "hub", weights)
    yield "org/repository@revision in a Hugging Face cache", "acme/bundled@v2.0"

    layouts.write_pickled_folder(folder / "bin", layouts.with_old_names(weights))
    convert(folder / "bin", folder / "bin-converted")
    yield ".bin, converted", folder / "bin-converted"
    layouts.write_pickled_folder(folder / "bins", weights, sharded=True)
    convert(folder / "bins", folder / "bins-converted")
    yield ".bin in shards, converted", folder / "bins-converted"
    layouts.write_old_revision(folder / "lambda", weights)
    convert(folder / "lambda", folder / "lambda-converted")
    yield "the revision for lambda-diffusers, converted", folder / "lambda-converted"
    layouts.write_ldm_checkpoint(folder / "model.ckpt", weights)
    convert(folder / "model.ckpt", folder / "ckpt-converted", "--like", plain, "--safety-checker", plain / "safety_checker")
    yield "LDM .ckpt, converted", folder / "ckpt-converted"


def refusal(bin_folder, model, flags=()):
    """What the server says when it does not start; within a second, or it says that too."""
    begin = time.monotonic()
    run = subprocess.run([Path(bin_folder) / "image-variations-server", "--model", model, "--listen", "127.0.0.1:0",
                          "--metrics-listen", "", *flags], capture_output=True, text=True)
    return f"exit {run.returncode} after {time.monotonic() - begin:.1f} s: {run.stderr}"


def check_refusals(bin_folder, folder):
    """What must not load; the rest of these rules is tested without a server."""
    path = folder / "bin-converted" / "vae" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-4] + b"\0\0\0\0")
    wrong = {"a weight that differs from the manifest": (folder / "bin-converted", "vae/diffusion_pytorch_model.safetensors has sha256"),
             "pickles": (folder / "bin", "convert_checkpoint.py"), "an LDM .ckpt": (folder / "model.ckpt", "convert_checkpoint.py"),
             "what is not in the cache": ("acme/bundled@v3", "hf download acme/bundled --revision v3")}
    for name, (model, why) in wrong.items():
        said = refusal(bin_folder, model)
        print(f"{name}: {'refused' if why in said else 'NOT REFUSED AS IT SHOULD BE: ' + said}", flush=True)
        yield why in said


def main():
    bin_folder = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HF_HUB_CACHE"] = str(folder / "hub")
        expected, failures = None, 0
        for what, model in make_layouts(folder, layouts.bundled_weights()):
            picture = draw(bin_folder, model)
            expected = expected or picture
            print(f"{what}: {'same bytes' if picture == expected else 'OTHER BYTES'}", flush=True)
            failures += picture != expected
        failures += list(check_refusals(bin_folder, folder)).count(False)
        sys.exit(f"{failures} failed" if failures else 0)


if __name__ == "__main__":
    main()
