#!/usr/bin/env python3
"""Makes tests/golden/<case>: what diffusers does with the bundled model, stage by stage (tests/golden/README.md).

    tools/setup.sh oracle
    .venv/bin/python tools/make_golden.py [--output tests/golden] [CASE...]

The pipeline that runs is diffusers' own, untouched; hooks listen to its parts. Each case runs twice, in float32 (what
is saved) and in float64: how far they lie apart is float32's own rounding error, and the tolerances are made of it.
"""
import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import platform
import sys
from unittest import mock

import diffusers
import numpy
import PIL
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from safetensors.torch import save_file

from diffusers_samplers import SAMPLERS

MODEL = "demo/model"
SCORE_TOLERANCE = 1e-3


@dataclasses.dataclass
class Parameters:
    """A request's parameters, by the names of the API."""
    sample_count: int = 2
    seed: int = 1
    guidance_scale: float = 3.0
    step_count: int = 25
    sampler: str = "pndm"
    eta: float = 0.0
    width: int = 64
    height: int = 64
    preprocessing: str = "model-card"


CASES = {
    "bundled-pndm": ("penguin", Parameters(sample_count=3)),
    "bundled-ddim": ("cactus", Parameters(sampler="ddim", seed=7)),
    "bundled-euler": ("watermelon", Parameters(sampler="euler", seed=42)),
    "bundled-dpmpp-2m": ("house", Parameters(sampler="dpmpp-2m", seed=4294967295)),
    "bundled-unguided": ("owl", Parameters(guidance_scale=1.0, sample_count=1)),
    "bundled-five-steps": ("lemon", Parameters(step_count=5, sample_count=1, guidance_scale=7.5)),
    "bundled-wide": ("landscape", Parameters(width=96, height=64, sample_count=1, seed=0)),
    "bundled-clip-processor": ("portrait", Parameters(preprocessing="clip-processor", sample_count=1)),
    "bundled-ddim-eta-1": ("turtle", Parameters(sampler="ddim", eta=1.0, sample_count=2, seed=11)),
    "bundled-blocked": ("blocked", Parameters(sample_count=2)),
}
# The other samplers share all networks with the cases above: of them only latents and pictures are kept.
BRIEF_CASES = {f"bundled-{sampler}": ("fox", Parameters(sampler=sampler, step_count=10, sample_count=1, seed=5))
               for sampler in SAMPLERS if f"bundled-{sampler}" not in CASES}
CASES |= BRIEF_CASES


def draw_float32(shape, generator=None, device=None, dtype=None, layout=None):
    """The float32 stream whatever the type of the run: torch's float64 stream is another one."""
    return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32, layout=layout).to(dtype)


def load_pipeline(dtype, model=MODEL):
    pipeline = diffusers.StableDiffusionImageVariationPipeline.from_pretrained(
        model, dtype=dtype,
        feature_extractor=transformers.CLIPImageProcessorPil.from_pretrained(model, subfolder="feature_extractor"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def resize_as_card(picture, side):
    """The card's ToTensor and Resize of an 8-bit RGB picture."""
    pixels = torch.from_numpy(numpy.asarray(picture).copy()).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(pixels, (side, side), mode="bicubic", align_corners=False, antialias=False)


def preprocess(pipeline, picture, preprocessing):
    """An 8-bit RGB picture as the image encoder's input. `model-card`: the card's ToTensor, Resize, Normalize."""
    processor = pipeline.feature_extractor
    if preprocessing == "clip-processor":
        return processor(images=picture, return_tensors="pt").pixel_values
    pixels = resize_as_card(picture, pipeline.image_encoder.config.image_size)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (processor.image_mean, processor.image_std))
    return (pixels - mean) / std


def score(pipeline, clip_input):
    """Cosine to each concept minus its threshold: safety_checker.py up to the subtraction."""
    checker = pipeline.safety_checker
    embeds = checker.visual_projection(checker.vision_model(clip_input)[1])
    margin = lambda directions, thresholds: cosine_distance(embeds, directions) - thresholds
    return {"safety.special_care": margin(checker.special_care_embeds, checker.special_care_embeds_weights),
            "safety.concepts": margin(checker.concept_embeds, checker.concept_embeds_weights)}


@torch.no_grad()
def run(pipeline, picture, p):
    """Every stage's output of one request, by name, in the order of the pipeline."""
    scheduler, options = SAMPLERS[p.sampler]
    own_config = diffusers.PNDMScheduler.from_pretrained(MODEL, subfolder="scheduler").config
    pipeline.scheduler = scheduler.from_config(own_config, **options)
    dtype = pipeline.unet.dtype
    steps, decoded, safety_input = [], [], []

    step = pipeline.scheduler.step
    @functools.wraps(step)
    def heard_step(model_output, timestep, sample, **more):
        result = step(model_output, timestep, sample, **more)
        steps.append((model_output.clone(), sample.clone(), result.prev_sample.clone()))
        return result
    pipeline.scheduler.step = heard_step

    pixel_values = preprocess(pipeline, picture, p.preprocessing).to(dtype)
    hooks = [pipeline.vae.decoder.register_forward_hook(lambda _, __, output: decoded.append(output.clone())),
             pipeline.safety_checker.vision_model.register_forward_pre_hook(
                 lambda _, args, kwargs: safety_input.append((args or tuple(kwargs.values()))[0]), with_kwargs=True)]
    generators = [torch.Generator().manual_seed(p.seed + i) for i in range(p.sample_count)]
    result = pipeline(pixel_values, height=p.height, width=p.width, num_inference_steps=p.step_count,
                      guidance_scale=p.guidance_scale, num_images_per_prompt=p.sample_count, eta=p.eta,
                      generator=generators, output_type="np")
    for hook in hooks:
        hook.remove()

    stages = {"pixel_values": pixel_values, "image_embeds": pipeline.image_encoder(pixel_values).image_embeds}
    stages["latents_init"] = steps[0][1]
    for k in sorted({0, 1, len(steps) // 2, len(steps) - 1}):
        stages[f"noise_pred.{k}"], stages[f"latents.{k}"] = steps[k][0], steps[k][2]
    stages["latents_final"], stages["decoded"] = steps[-1][2], decoded[0]
    pixels = pipeline.image_processor.postprocess(decoded[0], output_type="np")
    stages["picture"] = torch.from_numpy((pixels * 255).round())
    stages |= score(pipeline, safety_input[0])
    stages["safety.flagged"] = torch.tensor(result.nsfw_content_detected).long()

    pictures = [Image.fromarray(sample) for sample in stages["picture"].to(torch.uint8).numpy()]
    embeds = [pipeline.image_encoder(preprocess(pipeline, which, "clip-processor").to(dtype)).image_embeds
              for which in (picture, *pictures)]
    stages["similarity"] = torch.nn.functional.cosine_similarity(embeds[0], torch.cat(embeds[1:]))
    for sample, flagged in zip(zip(result.images, pixels), result.nsfw_content_detected):
        assert flagged or numpy.array_equal(*sample), "the hooks heard something else than the pipeline gave"
    return stages


def tolerances(exact, stages, preprocessing):
    """For each stage: the largest difference that an honest float32 implementation may show, and why so much."""
    cubic = "cubic weights in float32, summed in any order; values reach 2.6"
    integers = "Pillow's resize is integer arithmetic: the same levels, then normalised in float32"
    judged = (SCORE_TOLERANCE, "a picture that is one level off in places moves its scores by less (3e-4 when one"
                               " channel in ten is); the checker itself rounds to 3 decimals")
    special = {
        "pixel_values": (1e-5, cubic if preprocessing == "model-card" else integers),
        "latents_init": (float(f"{1e-6 * stages['latents_init'].abs().max():.1e}"),
                         "1e-6 of the largest value: the stream is torch's own; the last bits are those of"
                         " init_noise_sigma and of the vector unit that takes logarithms"),
        "picture": (1, "one level of 8 bits, where rounding falls on the other side"),
        "safety.special_care": judged, "safety.concepts": judged, "similarity": judged,
        "safety.flagged": (0, "the verdict; no score of these cases is within its tolerance of its threshold"),
    }
    for name, values in stages.items():
        error = (values.double() - exact[name].double()).abs().max().item()
        rounded = (float(f"{max(20 * error, 2e-6):.1e}"),
                   f"20 x the largest difference of diffusers in float32 to itself in float64 ({error:.1e}), at least 2e-6")
        most, reason = special.get(name, rounded)
        yield {"tensor": name, "max_abs_difference": most, "reason": reason}


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def make_case(name, pipelines, output):
    source, parameters = CASES[name]
    source = f"demo/pictures/{source}.png"
    picture = Image.open(source).convert("RGB")
    stages = run(pipelines[torch.float32], picture, parameters)
    assert min((stages[f"safety.{kind}"] + more).abs().min() for kind in ("special_care", "concepts")
               for more in (0, 0.01)) > SCORE_TOLERANCE, "a score so near its threshold is no test of the verdict"
    drawing_classes = (SAMPLERS[parameters.sampler][0], diffusers.StableDiffusionImageVariationPipeline)
    drawing_modules = [sys.modules[each.__module__] for each in drawing_classes
                       if hasattr(sys.modules[each.__module__], "randn_tensor")]
    with contextlib.ExitStack() as patches:
        for module in drawing_modules:
            patches.enter_context(mock.patch.object(module, "randn_tensor", draw_float32))
        exact = run(pipelines[torch.float64], picture, parameters)
    if name in BRIEF_CASES:
        stages = {stage: values for stage, values in stages.items() if stage.startswith(("latents", "picture"))}
    case = {
        "model": MODEL, "source": source, "source_sha256": sha256(source),
        "parameters": dataclasses.asdict(parameters),
        "scheduler_options": SAMPLERS[parameters.sampler][1],
        "stages": list(tolerances(exact, stages, parameters.preprocessing)),
        "made_by": {"script": "tools/make_golden.py", "sha256": sha256(__file__), "torch": torch.__version__,
                    "diffusers": diffusers.__version__, "transformers": transformers.__version__,
                    "numpy": numpy.__version__, "pillow": PIL.__version__, "python": platform.python_version(),
                    "cpu": torch.backends.cpu.get_cpu_capability()},
    }
    os.makedirs(f"{output}/{name}", exist_ok=True)
    with open(f"{output}/{name}/case.json", "w", encoding="utf-8") as file:
        json.dump(case, file, indent=2)
        file.write("\n")
    # 0 to 255 are exact in 16 bits; a copy, because the last latents have two names.
    saved = {k: (v.half() if k == "picture" else v).clone(memory_format=torch.contiguous_format)
             for k, v in stages.items()}
    save_file(saved, f"{output}/{name}/tensors.safetensors")
    apart = {k: (stages[k] - exact[k]).abs().max().item() for k in ("picture", "latents_final")}
    print(f"{name:24} {sum(v.nbytes for v in saved.values()) / 1024:5.0f} KiB  float32 - float64:"
          f" picture {apart['picture']:.0f} levels, latents {apart['latents_final']:.1e}"
          f"  flagged {exact['safety.flagged'].tolist()}"
          f"  similarity {[round(s, 3) for s in exact['similarity'].tolist()]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--output", default="tests/golden")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(CASES):
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    torch.set_num_threads(1)
    pipelines = {dtype: load_pipeline(dtype) for dtype in (torch.float32, torch.float64)}
    for name in arguments.cases or CASES:
        make_case(name, pipelines, arguments.output)


if __name__ == "__main__":
    main()
