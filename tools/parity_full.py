#!/usr/bin/env python3
"""Compares the full-size architecture with diffusers: final latents of one sample, random weights, float32.

    tools/setup.sh oracle && cmake --build --preset release --target latents_probe
    .venv/bin/python tools/parity_full.py [--sampler pndm ...]

Makes the model in a temporary folder (4.9 GB of disk, about as much memory), or takes --model. Prints a row of
docs/parity.md for each sampler; exits 1 if one passes the limit.
"""
import argparse
import os
import subprocess
import sys
import tempfile

import diffusers
import numpy
import torch
import transformers
from diffusers import PNDMScheduler, StableDiffusionImageVariationPipeline
from PIL import Image

import make_full_size_model
from make_golden import SAMPLERS, preprocess

LIMIT = 1e-3   # largest difference of final latents, relative to their standard deviation


@torch.no_grad()
def reference(model, picture, a):
    """diffusers' final latents, by sampler."""
    pipeline = StableDiffusionImageVariationPipeline.from_pretrained(
        model, dtype=torch.float32, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    own_config = PNDMScheduler.from_pretrained(model, subfolder="scheduler").config
    pixel_values, latents = preprocess(pipeline, picture, "model-card"), {}
    for sampler in a.sampler:
        scheduler, options = SAMPLERS[sampler]
        pipeline.scheduler = scheduler.from_config(own_config, **options)
        latents[sampler] = pipeline(
            pixel_values, height=a.size, width=a.size, num_inference_steps=a.steps, guidance_scale=a.guidance,
            generator=torch.Generator().manual_seed(a.seed), output_type="latent").images.numpy()
    return latents


def probe(model, sampler, a):
    """The service's own."""
    with tempfile.NamedTemporaryFile(suffix=".f32") as output:
        subprocess.run([a.probe, "--model", model, "--picture", a.picture, "--seed", str(a.seed), "--steps",
                        str(a.steps), "--sampler", sampler, "--guidance", str(a.guidance), "--width", str(a.size),
                        "--height", str(a.size), "--output", output.name], check=True)
        return numpy.fromfile(output.name, dtype="<f4")


def compare(model, a):
    picture = Image.open(a.picture).convert("RGB")
    references, worst = reference(model, picture, a), 0
    print("| sampler | size | steps | guidance | max difference | std of latents | ratio | limit |")
    print("|---|---|---|---|---|---|---|---|")
    for sampler, expected in references.items():
        actual = probe(model, sampler, a).reshape(expected.shape)
        difference = numpy.abs(actual.astype("f8") - expected).max()
        ratio = difference / expected.std() if numpy.isfinite(difference) else numpy.inf
        worst = max(worst, ratio)
        print(f"| {sampler} | {a.size}x{a.size} | {a.steps} | {a.guidance:g} | {difference:.2e}"
              f" | {expected.std():.3f} | {ratio:.1e} | {LIMIT:.0e} |", flush=True)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder of make_full_size_model.py; made anew if absent")
    parser.add_argument("--probe", default="build/release/bin/latents_probe")
    parser.add_argument("--picture", default="demo/pictures/penguin.png")
    parser.add_argument("--sampler", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    if not os.access(a.probe, os.X_OK):
        sys.exit(f"no program {a.probe}: cmake --build --preset release --target latents_probe")
    with tempfile.TemporaryDirectory() as scratch:
        model = a.model or f"{scratch}/full-size-random"
        if not a.model:
            make_full_size_model.make_model(model)
        sys.exit(1 if compare(model, a) > LIMIT else 0)


if __name__ == "__main__":
    main()
