#!/usr/bin/env python3
"""Makes demo/pictures: emoji that the bundled model knows, the one it blocks, and pictures from outside its world.

    tools/setup.sh oracle && apt-get install fonts-noto-color-emoji
    .venv/bin/python tools/make_demo_pictures.py [--output demo/pictures]

Emoji are rendered from the font; everything else is drawn here. The same versions make the same bytes.
"""
import argparse
import math
import os
import zlib

import numpy
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
SIDE = 256
# name: (code point, background at the top left, background at the bottom right, turn in degrees, share of the frame)
EMOJI = {
    "penguin": (0x1F427, "#dfe9ee", "#9fbfd0", 4, 0.84),
    "cactus": (0x1F335, "#fbe9c8", "#eec48f", 0, 0.84),
    "watermelon": (0x1F349, "#e8f3dc", "#b7dcb0", -6, 0.82),
    "house": (0x1F3E0, "#d8ecfb", "#8fc1e8", 0, 0.86),
    "owl": (0x1F989, "#cfd3ea", "#8a90c2", 0, 0.84),
    "turtle": (0x1F422, "#eaf0f7", "#b8c9e2", 5, 0.86),
    "lemon": (0x1F34B, "#c9b8e8", "#8f78c8", 8, 0.80),
    "snowflake": (0x2744, "#7b5aa6", "#4b2f78", 0, 0.82),
    "green-heart": (0x1F49A, "#fbe3ea", "#f1b3c4", 0, 0.80),
    "cookie": (0x1F36A, "#f6f2ea", "#d9cdb8", -5, 0.82),
    "robot": (0x1F916, "#fdf3d0", "#f2d479", 0, 0.82),
    "fox": (0x1F98A, "#dcefe9", "#9accbd", 0, 0.84),
    "blocked": (0x1F51E, "#f4f4f4", "#cfcfcf", 0, 0.86),
}


def gradient(size, first, last):
    """Linear from the top left corner to the bottom right one."""
    width, height = size
    y, x = numpy.mgrid[0:height, 0:width]
    share = ((x / (width - 1) + y / (height - 1)) / 2)[..., None]
    ends = [numpy.array([int(c[i:i + 2], 16) for i in (1, 3, 5)], dtype=float) for c in (first, last)]
    return Image.fromarray((ends[0] + (ends[1] - ends[0]) * share).round().astype("uint8"))


def glyph_of(code_point):
    """The font's bitmap with its true transparency: what black and white grounds leave of each other."""
    font = ImageFont.truetype(FONT, size=109, layout_engine=ImageFont.Layout.BASIC)
    grounds = [Image.new("RGB", (160, 160), ground) for ground in ("black", "white")]
    for ground in grounds:
        ImageDraw.Draw(ground).text((10, 10), chr(code_point), font=font, embedded_color=True)
    on_black, on_white = (numpy.asarray(ground, dtype=float) for ground in grounds)
    alpha = (255 - (on_white - on_black).mean(-1, keepdims=True)).clip(0, 255)
    colour = (on_black * 255 / numpy.maximum(alpha, 1)).clip(0, 255)
    glyph = Image.fromarray(numpy.concatenate([colour, alpha], -1).round().astype("uint8"), "RGBA")
    return glyph.crop(glyph.getchannel("A").getbbox())


def emoji(code_point, first, last, turn, share):
    glyph = glyph_of(code_point)
    scale = share * SIDE / max(glyph.size)
    glyph = glyph.resize([round(side * scale) for side in glyph.size], Image.Resampling.LANCZOS)
    glyph = glyph.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    picture = gradient((SIDE, SIDE), first, last)
    picture.paste(glyph, [(SIDE - side) // 2 for side in glyph.size], glyph)
    return picture


def landscape(width=384, height=256, fine=3):
    """Evening hills behind a lake, wider than high."""
    size, horizon = (width * fine, height * fine), int(height * fine * 0.62)
    picture = gradient(size, "#35478c", "#f6a35c")
    draw = ImageDraw.Draw(picture)
    draw.ellipse([int(size[0] * 0.46), horizon - 300, int(size[0] * 0.46) + 130, horizon - 170], fill="#ffe9b0")
    noise = numpy.random.default_rng(1)
    for base, rise, colour in ((0.44, 0.10, "#6a5d93"), (0.52, 0.09, "#4d4a7a"), (0.60, 0.06, "#2f3357")):
        phases = noise.uniform(0, 2 * math.pi, 4)
        ridge = [(x, size[1] * (base - rise * sum(math.sin(x / size[0] * 2 * math.pi * k + p) / k
                                                  for k, p in zip((1, 2, 4, 7), phases)) / 2))
                 for x in range(0, size[0] + 1, 4)]
        draw.polygon([(0, size[1]), *ridge, (size[0], size[1])], fill=colour)
    mirrored = picture.crop((0, 2 * horizon - size[1], size[0], horizon)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    lake = Image.blend(mirrored, Image.new("RGB", mirrored.size, "#28406e"), 0.35)
    picture.paste(lake.filter(ImageFilter.GaussianBlur(5)), (0, horizon))
    for x in (0.06, 0.11, 0.15, 0.88, 0.94):
        foot, tall = int(size[0] * x), int(size[1] * (0.34 + 0.2 * math.sin(37 * x)))
        for k in range(5):
            half, top = 16 + 13 * k, size[1] - 40 - tall + k * tall // 6
            draw.polygon([(foot, top), (foot - half, top + tall // 3), (foot + half, top + tall // 3)], fill="#16202f")
        draw.rectangle([foot - 6, size[1] - 60 - tall // 4, foot + 6, size[1]], fill="#16202f")
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def portrait(width=240, height=320, fine=4):
    """A face with glasses, higher than wide, in a few flat colours."""
    picture = gradient((width * fine, height * fine), "#f3d9c0", "#7fb1ab")
    draw = ImageDraw.Draw(picture)
    at = lambda *box: [value * fine for value in box]
    draw.ellipse(at(30, 232, 210, 420), fill="#b5523b")
    draw.polygon(at(96, 215, 144, 215, 152, 252, 120, 268, 88, 252), fill="#d79a77")
    draw.ellipse(at(48, 44, 192, 214), fill="#3b2a27")
    draw.ellipse(at(66, 66, 174, 232), fill="#e8b18d")
    draw.pieslice(at(52, 40, 188, 160), 178, 362, fill="#3b2a27")
    for x in (94, 146):
        draw.ellipse(at(x - 19, 126, x + 19, 164), fill="#fbf5ee", outline="#22242b", width=4 * fine)
        draw.ellipse(at(x - 7, 138, x + 7, 152), fill="#33424f")
        draw.arc(at(x - 18, 106, x + 18, 132), 200, 340, fill="#3b2a27", width=5 * fine)
    draw.line(at(113, 144, 127, 144), fill="#22242b", width=4 * fine)
    draw.line(at(120, 152, 113, 182, 124, 184), fill="#b9795a", width=4 * fine, joint="curve")
    draw.arc(at(94, 178, 148, 210), 20, 160, fill="#a23f3f", width=6 * fine)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def still_life(width=288, height=216, fine=2):
    """Three glossy balls on a table: one bounce of ray tracing (camera, sphere intersection, Blinn-Phong light)."""
    y, x = numpy.mgrid[0:height * fine, 0:width * fine] + 0.5
    ray = numpy.stack([x / fine - width / 2, height / 2 - y / fine - 34, numpy.full_like(x, width * 0.95)], -1)
    ray /= numpy.linalg.norm(ray, axis=-1, keepdims=True)
    balls = [((-1.15, 0.0, 6.4), 1.0, (0.85, 0.18, 0.16)), ((0.75, -0.3, 5.3), 0.7, (0.95, 0.72, 0.15)),
             ((1.55, 0.35, 7.6), 1.35, (0.15, 0.42, 0.75))]
    lamp = numpy.array([-4.0, 6.0, 1.0])

    def hit(origin, direction, centre, radius):
        to_centre = origin - numpy.array(centre)
        b = (to_centre * direction).sum(-1)
        root = b * b - ((to_centre ** 2).sum(-1) - radius ** 2)
        distance = -b - numpy.sqrt(numpy.maximum(root, 0))
        return numpy.where((root > 0) & (distance > 1e-3), distance, numpy.inf)

    eye = numpy.zeros(3)
    eye[1] = 1.1
    table = numpy.where(ray[..., 1] < -1e-3, (-1.0 - eye[1]) / numpy.minimum(ray[..., 1], -1e-3), numpy.inf)
    distances = numpy.stack([table] + [hit(eye, ray, *ball[:2]) for ball in balls])
    nearest, distance = distances.argmin(0), distances.min(0)
    point = eye + ray * numpy.where(numpy.isfinite(distance), distance, 0)[..., None]
    normal, colour = numpy.zeros_like(ray), numpy.zeros_like(ray)
    normal[..., 1] = 1
    grain = 0.5 + 0.5 * numpy.sin(9 * point[..., 2] + 1.5 * numpy.sin(1.3 * point[..., 0]))
    colour[...] = numpy.array([0.55, 0.36, 0.22]) * (0.8 + 0.2 * grain[..., None])
    for k, (centre, radius, paint) in enumerate(balls, 1):
        normal = numpy.where((nearest == k)[..., None], (point - numpy.array(centre)) / radius, normal)
        colour = numpy.where((nearest == k)[..., None], numpy.array(paint), colour)
    to_lamp = lamp - point
    to_lamp /= numpy.linalg.norm(to_lamp, axis=-1, keepdims=True)
    dark = numpy.isfinite(numpy.stack([hit(point + 1e-2 * normal, to_lamp, *ball[:2]) for ball in balls])).any(0)
    half = to_lamp - ray
    half /= numpy.linalg.norm(half, axis=-1, keepdims=True)
    diffuse = numpy.maximum((normal * to_lamp).sum(-1), 0) * ~dark
    gloss = numpy.maximum((normal * half).sum(-1), 0) ** 60 * ~dark * (nearest > 0)
    light = colour * (0.28 + 0.9 * diffuse)[..., None] + 0.8 * gloss[..., None]
    wall = numpy.array([0.80, 0.77, 0.72]) * (0.7 + 0.5 * (ray[..., 1:2] + 0.2))
    light = numpy.where(numpy.isfinite(distance)[..., None] & (distance < 22)[..., None], light, wall)
    picture = Image.fromarray((light.clip(0, 1) ** (1 / 1.6) * 255).round().astype("uint8"))
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="demo/pictures")
    output = parser.parse_args().output
    os.makedirs(output, exist_ok=True)
    for name, recipe in EMOJI.items():
        emoji(*recipe).save(f"{output}/{name}.png", optimize=True)
    landscape().save(f"{output}/landscape.png", optimize=True)
    portrait().save(f"{output}/portrait.png", optimize=True)
    # As a camera held on its side stores it: the pixels lie, the EXIF orientation (6) says how to turn them upright.
    exif = Image.Exif()
    exif[0x0112] = 6
    still_life().transpose(Image.Transpose.ROTATE_90).save(f"{output}/still-life.jpg", quality=92, exif=exif)
    for name in sorted(os.listdir(output)):
        if not name.endswith(".md"):
            with open(f"{output}/{name}", "rb") as file:
                content = file.read()
            print(f"{len(content):7d} {zlib.crc32(content):08x} {name}")


if __name__ == "__main__":
    main()
