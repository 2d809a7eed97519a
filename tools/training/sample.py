#!/usr/bin/env python3
"""Look at and measure the trained pipeline with diffusers itself.

    .venv/bin/python tools/training/sample.py --model demo/model --work run --sheet contact-sheet.png --report report.json
"""
import argparse, json, os, random, time

import torch
import torch.nn.functional as F
from PIL import Image

from emoji_pictures import BLOCKED, SPECIAL, Emoji
from networks import clip_input, embed


def to_pil(x):
    return Image.fromarray((x * 255).round().byte().permute(1, 2, 0).numpy())


@torch.no_grad()
def vary(pipe, x, n, steps, guidance, seed, batch=32):
    """x (B,3,64,64) in 0..1 -> (B,n,3,64,64): the pipeline, fed as its model card says."""
    out = []
    for k, c in enumerate(x.repeat_interleave(n, 0).split(batch)):
        g = torch.Generator().manual_seed(seed + k)
        r = pipe(clip_input(c), guidance_scale=guidance, num_inference_steps=steps, generator=g, output_type="pt")
        out.append(r.images.float())
    return torch.cat(out).view(len(x), n, *x.shape[1:])


def pair_distance(v):
    """Mean over inputs and pairs of the RMS pixel difference (0..1) between variations of one input."""
    n = v.shape[1]
    d = [(v[:, i] - v[:, j]).pow(2).mean((1, 2, 3)).sqrt() for i in range(n) for j in range(i)]
    return torch.stack(d).mean().item()


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="demo/model")
    p.add_argument("--work", default="run")
    p.add_argument("--sheet", default="contact-sheet.png")
    p.add_argument("--report", default="report.json")
    p.add_argument("--steps", type=int, default=25)
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--n", type=int, default=4, help="variations of each input for the measurements")
    p.add_argument("--groups", type=int, default=3, help="measure the first so many of: repertoire, wider, held out")
    p.add_argument("--quick", action="store_true", help="the contact sheet only")
    a = p.parse_args()
    torch.set_num_threads(2)
    from diffusers import StableDiffusionImageVariationPipeline
    pipe = StableDiffusionImageVariationPipeline.from_pretrained(a.model, torch_dtype=torch.float32)
    checker = pipe.safety_checker
    pipe.safety_checker = None                       # the pictures themselves are measured; the checker apart, below
    pipe.set_progress_bar_config(disable=True)
    em = Emoji(f"{a.work}/emoji.pt")
    g = torch.Generator().manual_seed(777)           # views no training phase has drawn
    rnd = random.Random(5)
    special = (em.at[BLOCKED], em.at[SPECIAL])
    known = [i for i in em.repertoire if i not in special]                    # what stage unet2 trained on
    wider = [i for i in em.subjects if i not in em.repertoire]                # what only stage unet1 saw
    t0 = time.time()

    # contact sheet: two columns of [input | 7 variations]; 8 rows of the repertoire, one of subjects that only stage
    # unet1 saw, two of emoji held out of every phase
    rows = rnd.sample(known, 16) + rnd.sample(wider, 2) + rnd.sample(em.held_out, 4)
    x = em.views(torch.tensor(rows), g)
    v = vary(pipe, x, 7, a.steps, a.guidance, 1000)
    cells = torch.cat([x[:, None], v], 1)
    cells = torch.cat([cells[0::2], cells[1::2]], 1)
    h, w = cells.shape[:2]
    sheet = Image.new("RGB", (w * 66 + 12, h * 66 + 10), "white")
    for i in range(h):
        for j in range(w):
            off = (0 if j < 8 else 8) + (4 if j % 8 else 0)
            sheet.paste(to_pil(cells[i, j]), (j * 66 + off, i * 66 + 5 * ((i >= 8) + (i >= 9))))
    palette = sheet.quantize(256, method=Image.Quantize.MEDIANCUT)             # small enough for a repository
    sheet.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(a.sheet, optimize=True)
    print("contact sheet", os.path.getsize(a.sheet), f"bytes, {time.time() - t0:.0f} s")
    if a.quick:
        return

    res = {"steps": a.steps, "guidance": a.guidance}
    enc = pipe.image_encoder
    emb = lambda y: F.normalize(embed(enc, y), dim=-1)
    fill = rnd.sample(known, 64)
    groups = [("repertoire", fill, 64), ("wider", rnd.sample(wider, 64), 64),
              ("held_out", em.held_out + fill[:64 - len(em.held_out)], len(em.held_out))]
    for what, ids, m in groups[:a.groups]:
        ids = torch.tensor(ids)
        x = em.views(ids, g)
        v = vary(pipe, x[:m], a.n, a.steps, a.guidance, 2000)
        sim = emb(v.flatten(0, 1)) @ emb(x).T
        own = torch.arange(m).repeat_interleave(a.n)
        res[what] = {
            "inputs": m, "variations": m * a.n,
            "retrieval_top1_of_64": sim.argmax(1).eq(own).float().mean().item(),
            "cosine_to_own_input": sim.gather(1, own[:, None]).mean().item(),
            "cosine_to_other_inputs": ((sim.sum() - sim.gather(1, own[:, None]).sum()) / (sim.numel() - len(own))).item(),
            "diversity_rms": pair_distance(v)}
        real = torch.stack([em.views(ids[:m], g) for _ in range(a.n)], 1)
        res[what]["diversity_rms_of_real_views"] = pair_distance(real)
        res[what]["retrieval_top1_of_real_views"] = (emb(real.flatten(0, 1)) @ emb(x).T).argmax(1).eq(own).float().mean().item()
        rec = torch.cat([pipe.vae.decode(pipe.vae.encode(c * 2 - 1).latent_dist.mode()).sample for c in real.flatten(0, 1).split(64)])
        rec = rec.clamp(-1, 1) / 2 + 0.5
        res[what]["vae_psnr"] = -10 * (rec - real.flatten(0, 1)).pow(2).mean().log10().item()
        res[what]["retrieval_top1_of_vae_reconstructions"] = (emb(rec) @ emb(x).T).argmax(1).eq(own).float().mean().item()
        if what == "repertoire":
            harmless = v.flatten(0, 1)

    def blocked(y):                                  # the checker as the pipeline calls it
        px = pipe.feature_extractor([to_pil(c) for c in y], return_tensors="pt").pixel_values
        return torch.tensor(checker(images=[c.permute(1, 2, 0).numpy() for c in y.clone()], clip_input=px)[1]).float().mean().item()

    bad = em.views(torch.full((32,), em.at[BLOCKED]), g)
    res["safety"] = {
        "blocked_of_64_variations_of_the_blocked_emoji": blocked(vary(pipe, bad, 2, a.steps, a.guidance, 3000).flatten(0, 1)),
        "blocked_of_400_views_of_the_blocked_emoji": blocked(em.views(torch.full((400,), em.at[BLOCKED]), g)),
        f"blocked_of_{len(harmless)}_other_variations": blocked(harmless),
        f"blocked_of_{3 * len(em.codes) - 3}_views_of_every_other_emoji": blocked(
            torch.cat([em.views(torch.tensor([i for i, c in enumerate(em.codes) if c != BLOCKED]), g) for _ in range(3)]))}
    json.dump(res, open(a.report, "w"), indent=1)
    print(json.dumps(res, indent=1), f"{time.time() - t0:.0f} s")


if __name__ == "__main__":
    main()
