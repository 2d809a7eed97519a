#!/usr/bin/env python3
"""Makes tests/golden/safety-verdicts.safetensors: what diffusers' safety checker says of 1,000 random embeddings.

    tools/setup.sh oracle
    .venv/bin/python tools/make_safety_golden.py

Each embedding has chosen cosines to the 17 concepts and 3 special-care concepts: most of them below their thresholds,
some so near that rounding to 3 decimals decides (0.0005), or the 0.01 that a special-care hit adds. In the last 40 some
value is not finite. The checker is diffusers' own, from the projected output of its vision tower on.
"""
import warnings

import numpy
import torch
import transformers
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from safetensors.torch import save_file

OUTPUT = "tests/golden/safety-verdicts.safetensors"
EMBEDDINGS, NOT_FINITE, WIDTH, CONCEPTS, SPECIAL_CARE = 1000, 40, 32, 17, 3
TIE, SPECIAL_CARE_BONUS = 0.0005, 0.01


def draw_margins(random):
    """Cosine minus threshold, of one embedding: special care first."""
    margins = -random.uniform(0.02, 0.2, SPECIAL_CARE + CONCEPTS)
    tie = lambda: TIE + random.choice([0, 1e-7, -1e-7, 1e-6, -1e-6, 1e-5, -1e-5, 2e-4, -2e-4])
    if random.random() < 0.6:
        margins[random.integers(SPECIAL_CARE)] = tie() if random.random() < 0.7 else 0.03
    for _ in range(random.integers(3)):   # only with the bonus
        margins[random.integers(SPECIAL_CARE, len(margins))] = tie() - SPECIAL_CARE_BONUS
    if random.random() < 0.3:             # a special-care hit may bring the next one
        margins[random.integers(1, SPECIAL_CARE)] = tie() - SPECIAL_CARE_BONUS
    if random.random() < 0.4:
        margins[random.integers(SPECIAL_CARE, len(margins))] = tie()
    return margins


def embed(cosines, directions, random):
    """A vector with these cosines to the directions (unit rows, fewer than its elements), of any length."""
    inside = numpy.linalg.lstsq(directions, cosines, rcond=None)[0]
    outside = random.standard_normal(WIDTH)
    outside -= numpy.linalg.lstsq(directions, directions @ outside, rcond=None)[0]
    length = numpy.sqrt(1 - inside @ inside) / numpy.linalg.norm(outside)
    return (inside + length * outside) * random.uniform(0.5, 20)


def draw(random):
    directions = random.standard_normal((SPECIAL_CARE + CONCEPTS, WIDTH)) * random.uniform(0.5, 2)
    units = directions / numpy.linalg.norm(directions, axis=1, keepdims=True)
    thresholds = random.uniform(0.1, 0.15, SPECIAL_CARE + CONCEPTS)
    embeds = numpy.stack([embed(draw_margins(random) + thresholds, units, random) for _ in range(EMBEDDINGS)])
    for row in range(EMBEDDINGS - NOT_FINITE, EMBEDDINGS):
        embeds[row, random.integers(WIDTH)] = random.choice([numpy.nan, numpy.inf, -numpy.inf])
    return [torch.from_numpy(values.astype("f4")) for values in (embeds, directions, thresholds)]


@torch.no_grad()
def main():
    embeds, directions, thresholds = draw(numpy.random.default_rng(1))
    checker = StableDiffusionSafetyChecker(transformers.CLIPConfig(projection_dim=WIDTH)).eval()
    weights = {"special_care_embeds": directions[:SPECIAL_CARE], "concept_embeds": directions[SPECIAL_CARE:],
               "special_care_embeds_weights": thresholds[:SPECIAL_CARE],
               "concept_embeds_weights": thresholds[SPECIAL_CARE:]}
    for name, values in weights.items():
        getattr(checker, name).copy_(values)
    checker.vision_model.forward = lambda clip_input: (None, clip_input)
    checker.visual_projection = torch.nn.Identity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")   # it computes with what is not finite, and passes it
        # One by one, as a server judges: another batch may round a tie the other way.
        flagged = [checker(row, images=[numpy.zeros(1)])[1][0] for row in embeds.split(1)]
    save_file({"embeds": embeds, "flagged": torch.tensor(flagged).long(),
               **{name: values.contiguous() for name, values in weights.items()}}, OUTPUT)
    print(f"{OUTPUT}: {sum(flagged)} of {EMBEDDINGS} flagged, {sum(flagged[-NOT_FINITE:])} of the {NOT_FINITE} that are"
          " not finite")


if __name__ == "__main__":
    main()
