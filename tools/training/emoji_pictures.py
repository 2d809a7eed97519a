"""The data: every emoji of the font, and random views of them."""
import math, os, random, unicodedata

import torch
import torch.nn.functional as F

from networks import SIZE

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
BLOCKED, SPECIAL = 0x1F51E, 0x1F6AB

# What the UNet learns to draw (the VAE and the image encoder see every single-codepoint emoji).
SUBJECTS = """1F32D-1F37F 1F380-1F384 1F388 1F389 1F392 1F393 1F3A8 1F3A9 1F3AF 1F3B1 1F3B2 1F3B8 1F3BA 1F3BB
1F3C0 1F3C6 1F3C8 1F3D0 1F3E0 1F400-1F43F 1F451 1F452 1F454-1F457 1F45C 1F45F 1F460 1F479-1F47B 1F47D 1F47E 1F480
1F489 1F48A 1F48D 1F48E 1F493 1F494 1F496 1F498-1F49D 1F4A1 1F4A3 1F4A9 1F4B0 1F4BB 1F4D5 1F4D7 1F4D8 1F4DE 1F4E6
1F4F7 1F4FA 1F511 1F512 1F514 1F51E 1F525 1F52D 1F600-1F60F 1F618 1F61C 1F621 1F622 1F62D 1F631 1F634 1F635
1F637-1F640 1F648-1F64A 1F680-1F6A2 1F6A8 1F6AB 1F6B2 1F6D1 1F6F5 1F6F8 1F910 1F911 1F916 1F917 1F920-1F922 1F929
1F92F 1F950-1F96F 1F980-1F9AE 1F9C0 1F9C1 1F9CA 2600-2603 2614 26BD 26BE 26C4 26F5 2708 2744 2764 2B50"""
# What it then learns to draw well: its repertoire (stage unet2).
REPERTOIRE = """1F32D 1F336 1F33D 1F344-1F347 1F349-1F34F 1F352-1F355 1F35F 1F366 1F369 1F36A 1F36D 1F370 1F37A 1F382
1F951 1F955 1F95A 1F966 1F95D 1F9C0 1F332 1F333 1F335 1F337-1F339 1F33B 1F340 1F341 1F40C 1F418 1F419 1F41D-1F420 1F422
1F424 1F427 1F428 1F42C-1F431 1F433 1F435-1F438 1F43B 1F43C 1F43E 1F980 1F981 1F984 1F985 1F988-1F98B 1F993 1F600 1F602
1F608 1F60D 1F60E 1F621 1F622 1F62D 1F634 1F637 1F911 1F916 1F920 1F922 1F479 1F47B 1F47D 1F480 1F4A9 1F680 1F682 1F68C
1F691 1F697 1F69C 1F6B2 2708 26F5 1F6F8 2764 1F499 1F49A 1F49C 1F494 1F498 1F48E 1F388 1F381 1F383 1F384 1F3C0 26BD 1F3AF
1F3B1 1F3B2 1F3B8 1F3C6 1F3E0 1F451 1F45F 1F4A1 1F4A3 1F4B0 1F4D7 1F4F7 1F511 1F512 1F514 1F525 1F51E 1F6AB 2600 2601
2603 2614 2744 2B50"""
# Mirror images of these are still the same thing (only the encoder's views are mirrored).
FLIP = "1F32D-1F37F 1F400-1F43F 1F600-1F640 1F680-1F6A2 1F900-1F9AE"
# Not pictures of a thing: modifiers, letters of flags, components.
SKIP = "20E3 1F1E6-1F1FF 1F3FB-1F3FF 23-39 E0000-FFFFF"


def code_points(text):
    out = set()
    for part in text.split():
        a, _, b = part.partition("-")
        out |= set(range(int(a, 16), int(b or a, 16) + 1))
    return out


class Emoji:
    """All single-codepoint emoji of the font as premultiplied RGBA 128x128, and random views of them."""

    def __init__(self, cache):
        if not os.path.exists(cache):
            self.render(cache)
        d = torch.load(cache)
        self.codes, self.rgba = d["codes"], d["rgba"]          # list of N ints, (N,4,128,128) uint8
        self.small = F.avg_pool2d(self.rgba.float(), 2).round().to(torch.uint8)
        self.names = [unicodedata.name(chr(c), f"U{c:X}") for c in self.codes]
        at = {c: i for i, c in enumerate(self.codes)}
        subjects = [at[c] for c in sorted(code_points(SUBJECTS)) if c in at]
        keep = {BLOCKED, SPECIAL}
        pool = [i for i in subjects if self.codes[i] not in keep]
        self.held_out = sorted(random.Random(0).sample(pool, round(0.05 * len(pool))))
        held = set(self.held_out)
        self.subjects = [i for i in subjects if i not in held]
        self.repertoire = [at[c] for c in sorted(code_points(REPERTOIRE)) if c in at and at[c] not in held]
        self.all_train = [i for i in range(len(self.codes)) if i not in held]
        self.at = at
        flip = code_points(FLIP)
        self.can_flip = torch.tensor([c in flip for c in self.codes])

    @staticmethod
    def render(cache):
        from fontTools.ttLib import TTFont
        from PIL import Image, ImageDraw, ImageFont
        import numpy as np
        cmap, font = TTFont(FONT).getBestCmap(), ImageFont.truetype(FONT, size=109, layout_engine=ImageFont.Layout.BASIC)
        skip, codes, pics = code_points(SKIP), [], []
        for c in sorted(cmap):
            if c in skip:
                continue
            im = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
            ImageDraw.Draw(im).text((10, 10), chr(c), font=font, embedded_color=True)
            box = im.getbbox()
            if not box or max(box[2] - box[0], box[3] - box[1]) < 40:
                continue
            im = im.crop(box)
            side = max(im.size)
            sq = Image.new("RGBA", (side, side), (0, 0, 0, 0))
            sq.paste(im, ((side - im.width) // 2, (side - im.height) // 2))
            a = np.asarray(sq.resize((128, 128), Image.LANCZOS)).astype("float32")
            a[..., :3] *= a[..., 3:] / 255
            codes.append(c)
            pics.append(torch.from_numpy(a.round().astype("uint8")).permute(2, 0, 1))
        torch.save({"codes": codes, "rgba": torch.stack(pics)}, cache)
        print("rendered", len(codes), "emoji")

    @staticmethod
    def colours(n, g):
        h, s, v = torch.rand(3, n, generator=g)
        s, v = 0.75 * s, 0.35 + 0.65 * v.sqrt()
        grey = torch.rand(n, generator=g)
        s = torch.where(grey < 0.15, torch.zeros(()), s)                      # greys
        v = torch.where(grey < 0.08, torch.ones(()), v)                       # white
        k = (torch.tensor([5.0, 3.0, 1.0])[None] + h[:, None] * 6) % 6
        return v[:, None] * (1 - s[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))

    def views(self, idx, g, flips=False, quick=False, scale=(0.65, 0.96), rot=12.0):
        """Random views of emoji idx (LongTensor): (B,3,64,64) in 0..1; quick: sampled at 64 (aliased), else 128."""
        B, R = len(idx), SIZE if quick else 2 * SIZE
        r = lambda: torch.rand(B, generator=g)
        s = scale[0] + (scale[1] - scale[0]) * r()
        a = (2 * r() - 1) * math.radians(rot)
        tx, ty = (2 * r() - 1) * (1 - s), (2 * r() - 1) * (1 - s)
        m = torch.where(self.can_flip[idx] & (r() < 0.5) & flips, -1.0, 1.0)
        c, n = a.cos() / s, a.sin() / s
        th = torch.stack([torch.stack([m * c, m * n, -m * (c * tx + n * ty)], 1),
                          torch.stack([-n, c, n * tx - c * ty], 1)], 1)
        src = (self.small if quick == "smooth" else self.rgba)[idx].float() / 255
        fg = F.grid_sample(src, F.affine_grid(th, (B, 4, R, R), align_corners=False), align_corners=False)
        c0, c1 = self.colours(B, g), self.colours(B, g)
        c1 = torch.where((r() < 0.4)[:, None], c0, 0.5 * c0 + 0.5 * c1)        # plain, or a soft gradient
        ang = 2 * math.pi * r()
        u = torch.linspace(-1, 1, R)
        t = (ang.cos()[:, None, None] * u[None, None] + ang.sin()[:, None, None] * u[None, :, None]) / 2.83 + 0.5
        bg = c0[:, :, None, None] + (c1 - c0)[:, :, None, None] * t[:, None]
        x = (fg[:, :3] + (1 - fg[:, 3:]) * bg).clamp(0, 1)
        return x if quick else F.avg_pool2d(x, 2)
