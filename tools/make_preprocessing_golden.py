#!/usr/bin/env python3
"""Makes tests/golden/preprocessing.safetensors: 200 noise pictures of random sizes as a CLIP tower's input, both ways.

    tools/setup.sh oracle
    .venv/bin/python tools/make_preprocessing_golden.py

`sizes`: width, height and the tower's side of each; pictures are hashes of their byte's index, which the test computes
again. `card`: the model card's ToTensor, Resize(bicubic, antialias=False), Normalize, one picture after the other
(3, side, side), by the function of torch that torchvision calls. `clip`: CLIPImageProcessor's 8-bit levels before
normalisation, likewise.
"""
import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from make_golden import resize_as_card

OUTPUT = "tests/golden/preprocessing.safetensors"
PICTURES, SIDE, LARGE_SIDE = 200, 12, 48
EXTREMES = ((1, 1), (1, 4000), (4000, 1), (4000, 17), (17, 4000), (2, 2), (12, 12), (48, 48), (11, 13), (4000, 300))
MOST_PIXELS = 1_200_000


def draw_sizes(random):
    while True:
        width, height = (int(4000 ** random.uniform()) for _ in range(2))
        if width * height <= MOST_PIXELS:
            yield width, height


def noise(width, height, index):
    """Bytes of a picture: numbers that C++ computes as easily."""
    with numpy.errstate(over="ignore"):
        bits = numpy.arange(3 * width * height, dtype="u4") * numpy.uint32(2654435761) + numpy.uint32(index)
        bits = (bits ^ (bits >> numpy.uint32(15))) * numpy.uint32(2246822519)
    return (bits >> numpy.uint32(24)).astype("u1").reshape(height, width, 3)


def normalize(pixels):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in
                 (transformers.image_utils.OPENAI_CLIP_MEAN, transformers.image_utils.OPENAI_CLIP_STD))
    return (pixels - mean) / std


def main():
    sizes = draw_sizes(numpy.random.default_rng(1))
    all_sizes, card, clip = [], [], []
    for index in range(PICTURES):
        width, height = EXTREMES[index] if index < len(EXTREMES) else next(sizes)
        side = LARGE_SIDE if index % 50 == 7 else SIDE
        picture = Image.fromarray(noise(width, height, index))
        card.append(normalize(resize_as_card(picture, side))[0])
        processor = transformers.CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, resample=3, do_rescale=False,
            do_normalize=False)
        clip.append(processor(images=picture, return_tensors="pt").pixel_values[0])
        all_sizes.append([width, height, side])
    flat = lambda tensors: torch.cat([tensor.flatten() for tensor in tensors])
    save_file({"sizes": torch.tensor(all_sizes), "card": flat(card).float(), "clip": flat(clip).half()}, OUTPUT)
    print(f"{OUTPUT}: {PICTURES} pictures")


if __name__ == "__main__":
    main()
