#!/usr/bin/env python3
"""Runs diffusers and the server with the same seeds, and compares their pictures: the cases of tools/parity_cases.txt.

    tools/setup.sh oracle && make release
    .venv/bin/python tools/parity.py [--update-docs] [--random-seed today] [PATTERN...]

A PATTERN (`random-*`) chooses cases by name; default: all. Prints a row for each case, and leaves the worst sample's
picture in out/parity/CASE.png: diffusers', the server's, and where they differ (a level is 64). Exits 1 if a case does
not hold. The pipeline that runs is diffusers' own; the server is the real program, asked by the real CLI.

Where a sampler's pictures are further apart than the case allows, diffusers runs once more with its scheduler's numbers
in float64. If that moves diffusers' own pictures by more than the limit, float32 decides nothing there: ours are held
against those of float64, and the row says so.
"""
import argparse
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import typing
import unittest.mock

import diffusers
import numpy
import torch
import transformers
from PIL import Image, ImageOps

import make_full_size_model
import make_random_model
from make_golden import Parameters, load_pipeline, preprocess
from make_sampler_golden import make as make_scheduler
from server_process import running_server

CASES = pathlib.Path("tools/parity_cases.txt")
PAGE = pathlib.Path("docs/parity.md")
OUTPUT = pathlib.Path("out/parity")
FULL_SIZE = "out/full-size"   # made when it is needed
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CLI_PREPROCESSING = {"model-card": "card", "clip-processor": "clip"}
SIMILARITY_TOLERANCE = 1e-3   # in fp32: what pictures one level apart may show


@dataclasses.dataclass
class Case:
    name: str
    options: str   # as the file has them
    limits: dict[str, float]
    request: Parameters
    model: str = "demo/model"
    dtype: str = "fp32"
    picture: str = "penguin"

    @property
    def source(self):
        return f"demo/pictures/{self.picture}{'' if '.' in self.picture else '.png'}"


class Sample(typing.NamedTuple):
    label: str
    picture: numpy.ndarray | None   # (height, width, 3) levels; None: blocked
    similarity: float | None


def read_case(line):
    match = re.fullmatch(r"([\w-]+):\s+(.*?)\s*->\s*(.*)", line)
    if not match:
        sys.exit(f"{CASES}: cannot read: {line}")
    name, options, limits = match.groups()
    fields = {field.name: field for field in dataclasses.fields(Parameters)}
    request = Parameters(sample_count=1, width=0, height=0)
    case = Case(name, " ".join(options.split()), read_limits(limits), request)
    for option in options.split():
        key, _, value = option.partition("=")
        if key in fields:
            setattr(request, key, fields[key].type(value))
        elif key in ("model", "dtype", "picture"):
            setattr(case, key, value)
        else:
            sys.exit(f"{CASES}: {name}: no option {key}; known: model, dtype, picture, {', '.join(fields)}")
    return case


def read_limits(text):
    """{"max": 1}, {"below": 0.5}."""
    limits = {}
    for limit in text.split(", "):
        match = re.fullmatch(r"(max|mean) ([\d.]+)|([\d.]+) dB below", limit)
        if not match:
            sys.exit(f"{CASES}: no limit: {limit}")
        limits[match[1] or "below"] = float(match[2] or match[3])
    return limits


def read_cases(patterns):
    lines = [line for line in CASES.read_text().splitlines() if line and not line.startswith("#")]
    cases = [case for case in map(read_case, lines)
             if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns or "*")]
    return cases or sys.exit(f"{CASES}: no case is named {' or '.join(patterns)}")


@contextlib.contextmanager
def model_folder(name, random_seed):
    """Yields the folder of `demo/model` or `random/3`, and how it shows in the table."""
    number = re.fullmatch(r"random/(\d+)", name)
    if not number:
        if name == FULL_SIZE and not pathlib.Path(name, "model_index.json").exists():
            make_full_size_model.make_model(name)
        yield name, ""
        return
    seed = random_seed + int(number[1]) - 1
    with tempfile.TemporaryDirectory() as scratch:
        config = make_random_model.make_model(seed, scratch)
        print(f"random configuration {seed}: {json.dumps(config)}", flush=True)
        yield scratch, f"configuration {seed}"


def ask(bin_folder, address, case, sampler, folder):
    """The server's answer to one request: samples, or the text of its refusal."""
    p = case.request
    command = [f"{bin_folder}/image-variations", "vary", case.source, "--server", address, "--json", "--quiet",
               "--no-sheet", "-o", folder, "-n", p.sample_count, "--seed", p.seed, "--steps", p.step_count,
               "--guidance-scale", p.guidance_scale, "--sampler", sampler,
               "--preprocessing", CLI_PREPROCESSING[p.preprocessing]]
    for option in ("eta", "width", "height"):
        if value := getattr(p, option):
            command += [f"--{option}", value]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    reply = json.loads(done.stdout.splitlines()[0]) if done.stdout else {"error": {"message": done.stderr}}
    if "error" in reply:
        return reply["error"]["message"]
    return [Sample(f"{sampler}, seed {each['seed']}", read_picture(each), each.get("similarity"))
            for each in reply["variations"]]


def read_picture(variation):
    if variation["outcome"] == "filtered":
        return None
    if "file" not in variation:
        sys.exit(f"the server failed: {variation}")
    return numpy.asarray(Image.open(variation["file"]).convert("RGB"))


def samplers_of(case, known):
    return known if case.request.sampler == "each" else [case.request.sampler]


def ask_server(a, model, dtype, cases):
    """{(case, sampler): answer} of all cases, from one server."""
    answers = {}
    largest = [max(case.request.width, case.request.height) for case in cases]
    # A small model's own limit is twice its size; a size that is asked for need not know it.
    flags = ("--dtype", dtype, *(("--max-size", str(max(largest))) if max(largest) else ()))
    with running_server(a.bin, model, flags) as (_, address):
        info = subprocess.run([f"{a.bin}/image-variations", "info", "--json", "--server", address], check=True,
                              capture_output=True, text=True)
        known = json.loads(info.stdout)["samplers"]
        for case in cases:
            for sampler in samplers_of(case, known):
                with tempfile.TemporaryDirectory() as folder:
                    answers[case.name, sampler] = ask(a.bin, address, case, sampler, folder)
    return answers


def compute_in_float64(scheduler):
    """Its sigmas, and latents between steps; the networks see float32 as before."""
    step, set_timesteps, scale_model_input = scheduler.step, scheduler.set_timesteps, scheduler.scale_model_input

    @functools.wraps(set_timesteps)
    def set_exact_timesteps(*args, **more):
        set_timesteps(*args, **more)
        scheduler.sigmas = scheduler.sigmas.double()

    scheduler.set_timesteps = set_exact_timesteps
    scheduler.scale_model_input = lambda sample, timestep: scale_model_input(sample.double(), timestep).float()
    scheduler.step = functools.wraps(step)(
        lambda output, timestep, sample, **more: step(output.double(), timestep, sample.double(), **more))


def ask_diffusers_in_float64(pipeline, model, case, sampler):
    """As ask_diffusers, with a scheduler that does not round; for those with sigmas that draw no noise."""
    decode = pipeline.vae.decode
    with unittest.mock.patch.object(pipeline.vae, "decode", lambda latents, **more: decode(latents.float(), **more)):
        yield from ask_diffusers(pipeline, model, case, sampler, compute_in_float64)


@torch.no_grad()
def ask_diffusers(pipeline, model, case, sampler, change_scheduler=lambda scheduler: None):
    """The same request; ValueError and the like where diffusers does not do it."""
    p, picture = case.request, ImageOps.exif_transpose(Image.open(case.source)).convert("RGB")
    config = json.loads(pathlib.Path(model, "scheduler/scheduler_config.json").read_text())
    pipeline.scheduler = make_scheduler(config, sampler)
    change_scheduler(pipeline.scheduler)
    encode = lambda image, how: pipeline.image_encoder(preprocess(pipeline, image, how).to(pipeline.unet.dtype))
    result = pipeline(
        preprocess(pipeline, picture, p.preprocessing), height=p.height or None, width=p.width or None,
        num_inference_steps=p.step_count, guidance_scale=p.guidance_scale, num_images_per_prompt=p.sample_count,
        eta=p.eta, generator=[torch.Generator().manual_seed(p.seed + i) for i in range(p.sample_count)],
        output_type="pil")
    source = encode(picture, "clip-processor").image_embeds.float()
    for i, (image, flagged) in enumerate(zip(result.images, result.nsfw_content_detected)):
        cosine = torch.nn.functional.cosine_similarity(source, encode(image, "clip-processor").image_embeds.float())
        yield Sample(f"{sampler}, seed {p.seed + i}", None if flagged else numpy.asarray(image), cosine.item())


class Comparison:
    """What a case's samples show, gathered sampler by sampler."""

    def __init__(self, case, model_note):
        self.case, self.model_note = case, model_note
        self.problems, self.refused, self.notes = [], [], []
        self.max, self.similarity, self.levels, self.squares, self.own_squares = 0, 0, 0, 0, 0
        self.count, self.samples, self.worst = 0, 0, "none differs"

    def add_refusal(self, sampler, message, expected):
        if isinstance(expected, Exception):
            self.refused.append(sampler)
        else:
            self.problems.append(f"{sampler}: refused, and diffusers does it: {message}")

    def add_failure(self, sampler, error):
        """Of diffusers. What it refuses is ours to refuse; what breaks in it is not."""
        if isinstance(error, (ValueError, NotImplementedError)):
            self.problems.append(f"{sampler}: diffusers refuses it: {error}")
        else:
            self.notes.append(f"{sampler}: {type(error).__name__} in diffusers")

    def add(self, ours, theirs, exact):
        """`exact`: theirs in float32, the same as `theirs` where that is float32."""
        self.samples += 1
        if (ours.picture is None) != (theirs.picture is None):
            self.problems.append(f"{ours.label}: only {'ours' if ours.picture is None else 'diffusers'} is blocked")
            return
        if ours.picture is None or exact.picture is None:
            return
        difference = numpy.abs(ours.picture.astype(int) - theirs.picture)
        apart = numpy.square(ours.picture.astype(float) - exact.picture)
        self.levels, self.squares = self.levels + difference.sum(), self.squares + apart.sum()
        self.own_squares += numpy.square(theirs.picture.astype(float) - exact.picture).sum()
        self.count += difference.size
        self.similarity = max(self.similarity, abs(ours.similarity - theirs.similarity))
        if difference.max() > self.max:
            self.max, self.worst = difference.max(), ours.label
            self.save(numpy.concatenate([theirs.picture, ours.picture, (64 * difference).clip(0, 255)], axis=1))

    def save(self, panels):
        OUTPUT.mkdir(parents=True, exist_ok=True)
        Image.fromarray(panels.astype("uint8")).save(OUTPUT / f"{self.case.name}.png")

    def decibel(self, squares):
        return 10 * math.log10(255 ** 2 * self.count / squares) if squares else math.inf

    def judge(self):
        """Everything that does not hold, as text."""
        limits, mean = self.case.limits, self.levels / max(1, self.count)
        found = list(self.problems)
        found += [f"max {self.max}"] if self.max > limits.get("max", math.inf) else []
        found += [f"mean {mean:.3g}"] if mean > limits.get("mean", math.inf) else []
        short = self.decibel(self.own_squares) - self.decibel(self.squares)
        found += [f"{short:.2f} dB below"] if short > limits.get("below", math.inf) else []
        if self.case.dtype == "fp32" and self.similarity > SIMILARITY_TOLERANCE:
            found.append(f"similarity {self.similarity:.1e} apart")
        return found if self.samples else found + ["nothing was compared"]

    def row(self):
        psnr = f"{self.decibel(self.squares):.1f} dB" if self.squares else "equal"
        if self.case.dtype != "fp32":
            psnr += f" (diffusers: {self.decibel(self.own_squares):.1f})"
        options = " ".join(filter(None, [self.case.options, self.model_note]))
        if self.refused:
            options += f" (not, as in diffusers: {', '.join(self.refused)})"
        if self.notes:
            options += f" ({'; '.join(self.notes)})"
        limits = ", ".join(f"{v:g} dB below" if k == "below" else f"{k} {v:g}" for k, v in self.case.limits.items())
        return (f"| {self.case.name} | {options} | {self.samples} | {self.max} | {self.levels / max(1, self.count):.2g}"
                f" | {psnr} | {self.worst} | {limits} |")


HEADER = """| Case | Request | Samples | Max | Mean | PSNR | Worst sample | Must hold |
|---|---|---|---|---|---|---|---|"""


def compare_all(a, cases):
    """Comparisons by case name. One server or one pipeline is in memory at a time, each for all cases of its model."""
    by_model = lambda case: case.model
    comparisons = {}
    for name, group in itertools.groupby(sorted(cases, key=by_model), by_model):
        group = list(group)
        with model_folder(name, a.random_seed) as (model, note):
            answers = {}
            for dtype in sorted({case.dtype for case in group}):
                answers |= ask_server(a, model, dtype, [case for case in group if case.dtype == dtype])
            expected = ask_pipelines(model, group, answers)
        for case in group:
            comparisons[case.name] = compare(Comparison(case, note), answers, expected)
    return comparisons


def ask_pipelines(model, cases, answers):
    """{(dtype, case, sampler): samples, or the exception}; in float32 also what has another dtype, in float64 what float32
    is too coarse for."""
    expected = {}
    for dtype in sorted({case.dtype for case in cases} | {"fp32"}):
        pipeline = load_pipeline(DTYPES[dtype], model)
        for case in cases:
            for name, sampler in answers:
                if name == case.name and dtype in ("fp32", case.dtype):
                    try:
                        theirs = expected[dtype, name, sampler] = list(ask_diffusers(pipeline, model, case, sampler))
                        if largest_difference(answers[name, sampler], theirs) > case.limits.get("max", math.inf):
                            exact = list(ask_diffusers_in_float64(pipeline, model, case, sampler))
                            expected["fp64", name, sampler] = exact
                    except (ValueError, NotImplementedError, IndexError) as error:
                        expected[dtype, name, sampler] = error
        del pipeline
    return expected


def largest_difference(first, second):
    """In levels; 0 where there is nothing to compare."""
    if isinstance(first, str):
        return 0
    return max((numpy.abs(a.picture.astype(int) - b.picture).max() for a, b in zip(first, second, strict=True)
                if a.picture is not None and b.picture is not None), default=0)


def compare(comparison, answers, expected):
    case = comparison.case
    for (name, sampler), ours in answers.items():
        if name != case.name:
            continue
        theirs, exact = expected[case.dtype, name, sampler], expected["fp32", name, sampler]
        if isinstance(ours, str):
            comparison.add_refusal(sampler, ours, theirs)
        elif isinstance(theirs, Exception):
            comparison.add_failure(sampler, theirs)
        else:
            unrounded = expected.get(("fp64", name, sampler), theirs)
            if (rounding := largest_difference(theirs, unrounded)) > case.limits.get("max", math.inf):
                comparison.notes.append(f"{sampler}: held against diffusers in float64, {rounding} from its float32")
                theirs = exact = unrounded
            for samples in zip(ours, theirs, exact, strict=True):
                comparison.add(*samples)
    return comparison


def update_docs(rows):
    """Puts rows into the page's table, by case; those of other cases stay, in the order of the cases' file."""
    page = PAGE.read_text()
    match = re.search(r"(?<=<!-- parity -->\n).*(?=\n<!-- end of parity -->)", page, flags=re.S)
    if not match:
        sys.exit(f"{PAGE}: no place for the table")
    by_case = {row.split()[1]: row for row in match[0].splitlines() + rows if row.startswith("| ")}
    table = [by_case[case.name] for case in read_cases([]) if case.name in by_case]
    PAGE.write_text(page[:match.start()] + "\n".join([HEADER, *table]) + page[match.end():])


def random_seed(text):
    return int(datetime.date.today().strftime("%Y%m%d00")) if text == "today" else int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--bin", default="build/release/bin", help="folder of the programs")
    parser.add_argument("--random-seed", type=random_seed, default=1, metavar="N|today",
                        help="of the first random configuration (default: 1)")
    parser.add_argument("--update-docs", action="store_true", help=f"write the rows into {PAGE}")
    a = parser.parse_args()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()

    cases = read_cases(a.patterns)
    comparisons = compare_all(a, cases)
    rows = [comparisons[case.name].row() for case in cases]
    print(HEADER, *rows, sep="\n")
    if a.update_docs:
        update_docs(rows)
    problems = {case.name: found for case in cases if (found := comparisons[case.name].judge())}
    for name, found in problems.items():
        print(f"{name} does not hold: {'; '.join(found)} (picture: {OUTPUT / name}.png)")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
