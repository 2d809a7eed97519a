#!/usr/bin/env python3
"""Train a tiny StableDiffusionImageVariationPipeline on Noto Color Emoji, on a CPU.

    .venv/bin/python tools/training/train.py --work run --out model     # every phase, in order
    .venv/bin/python tools/training/train.py --work run --phases vae    # one phase (its checkpoint lands in --work)

Phases: vae, encoder, latents, unet1, latents2, unet2, decoder, safety, export.  See demo/model/README.md.
"""
import argparse, copy, json, math, os, random, time, unicodedata

import torch
import torch.nn.functional as F

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
SIZE, LATENT, PROJ = 64, 16, 192
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


def clip_input(x):
    """The image-variation card's preprocessing: resize (bicubic, no antialias), normalise."""
    if x.shape[-1] != SIZE:
        x = F.interpolate(x, (SIZE, SIZE), mode="bicubic", antialias=False, align_corners=False).clamp(0, 1)
    return (x - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)


def make_vae():
    from diffusers import AutoencoderKL
    return AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 3,
                         up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(32, 64, 64),
                         layers_per_block=1, norm_num_groups=8, latent_channels=4, sample_size=SIZE)


def make_encoder():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    return CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, image_size=SIZE,
        patch_size=8, projection_dim=PROJ, hidden_act="quick_gelu", initializer_factor=1.0))


def make_unet():
    from diffusers import UNet2DConditionModel
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=PROJ, attention_head_dim=4)


def make_scheduler():
    from diffusers import PNDMScheduler
    return PNDMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                         skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


def lr_at(step, steps, peak, warm=100, floor=0.01):
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


class Log:
    def __init__(self, name):
        self.name, self.t0, self.acc, self.n = name, time.time(), None, 0

    def __call__(self, step, steps, every=50, **v):
        self.acc = v if self.acc is None else {k: self.acc[k] + v[k] for k in v}
        self.n += 1
        if (step + 1) % every == 0 or step + 1 == steps:
            print(f"{self.name} {step + 1}/{steps} {time.time() - self.t0:.0f}s "
                  + " ".join(f"{k} {self.acc[k] / self.n:.4f}" for k in v), flush=True)
            self.acc, self.n = None, 0


# ---------------------------------------------------------------- phase 1: VAE
def train_vae(a, em):
    torch.manual_seed(1)
    g = torch.Generator().manual_seed(11)
    vae = make_vae()
    if a.resume and os.path.exists(f"{a.work}/vae.pt"):
        vae.load_state_dict(torch.load(f"{a.work}/vae.pt"))
    opt = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    pool, log = torch.tensor(em.all_train), Log("vae")
    dx = lambda x: x[..., 1:] - x[..., :-1]
    dy = lambda x: x[..., 1:, :] - x[..., :-1, :]
    for step in range(a.vae_steps):
        for p in opt.param_groups:
            p["lr"] = lr_at(step, a.vae_steps, 1.5e-3)
        B = a.vae_batch if step < 0.9 * a.vae_steps else 3 * a.vae_batch       # many cheap steps, a calmer end
        x = em.views(pool[torch.randint(len(pool), (B,), generator=g)], g, flips=True, rot=25) * 2 - 1
        with bf16():
            post = vae.encode(x).latent_dist
            z = post.mean + post.std * torch.randn(post.mean.shape, generator=g)
            y = vae.decode(z).sample
        y, mu, lv = y.float(), post.mean.float(), post.logvar.float()
        rec, mse = (y - x).abs().mean(), (y - x).pow(2).mean()
        edge = (dx(y) - dx(x)).abs().mean() + (dy(y) - dy(x)).abs().mean()
        low = (F.avg_pool2d(y, 8) - F.avg_pool2d(x, 8)).pow(2).mean()              # or it forgets green for long
        kl = 0.5 * (mu ** 2 + lv.exp() - 1 - lv).mean()
        loss = rec + mse + 20 * low + 0.5 * edge + a.kl * kl
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        log(step, a.vae_steps, every=100, rec=rec.item(), mse=mse.item(), low=low.item(), edge=edge.item(), kl=kl.item())
        if (step + 1) % 500 == 0 or step + 1 == a.vae_steps:
            torch.save(vae.state_dict(), f"{a.work}/vae.pt")
    vae.eval()
    with torch.no_grad():
        x = em.views(pool[torch.randint(len(pool), (512,), generator=g)], g) * 2 - 1
        z = torch.cat([vae.encode(c).latent_dist.sample(g) for c in x.split(64)])
        sf = 1 / z.std().item()
        h = em.views(torch.tensor(em.held_out), g) * 2 - 1
        psnr = lambda u: -10 * math.log10(((vae.decode(vae.encode(u).latent_dist.mode()).sample.clamp(-1, 1) - u) / 2).pow(2).mean().item())
        res = {"scaling_factor": sf, "latent_mean": z.mean().item(), "psnr_train": psnr(x[:64]), "psnr_held_out": psnr(h)}
    json.dump(res, open(f"{a.work}/vae.json", "w"), indent=1)
    print(res)


def train_decoder(a, em):
    """The latents stay as they are; the decoder learns to forgive the UNet's small errors in them."""
    torch.manual_seed(4)
    g = torch.Generator().manual_seed(15)
    vae, pool, log = load_vae(a), torch.tensor(em.all_train), Log("decoder")
    res = json.load(open(f"{a.work}/vae.json"))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    params = [p for p in vae.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    dx = lambda x: x[..., 1:] - x[..., :-1]
    dy = lambda x: x[..., 1:, :] - x[..., :-1, :]
    for step in range(a.dec_steps):
        for p in opt.param_groups:
            p["lr"] = lr_at(step, a.dec_steps, 1e-3)
        k = torch.randint(len(pool), (a.dec_batch,), generator=g)
        x = em.views(pool[k], g, flips=True, rot=20) * 2 - 1
        with torch.no_grad(), bf16():
            z = vae.encode(x).latent_dist.mean.float()
        amp = a.dec_noise * torch.rand(len(x), 1, 1, 1, generator=g) / res["scaling_factor"]
        with bf16():
            y = vae.decode(z + amp * torch.randn(z.shape, generator=g)).sample
        y = y.float()
        rec, mse = (y - x).abs().mean(), (y - x).pow(2).mean()
        edge = (dx(y) - dx(x)).abs().mean() + (dy(y) - dy(x)).abs().mean()
        low = (F.avg_pool2d(y, 8) - F.avg_pool2d(x, 8)).pow(2).mean()
        loss = rec + mse + 20 * low + 0.5 * edge
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        log(step, a.dec_steps, every=100, rec=rec.item(), mse=mse.item(), low=low.item(), edge=edge.item())
    vae.eval()
    with torch.no_grad():
        def psnr(ids, noise):
            u = em.views(torch.tensor(ids), torch.Generator().manual_seed(99)) * 2 - 1
            z = torch.cat([vae.encode(c).latent_dist.mode() for c in u.split(64)])
            z = z + noise / res["scaling_factor"] * torch.randn(z.shape, generator=g)
            y = torch.cat([vae.decode(c).sample for c in z.split(64)]).clamp(-1, 1)
            return -10 * math.log10(((y - u) / 2).pow(2).mean().item())
        res["after_decoder_phase"] = {"psnr_train": psnr(em.subjects, 0), "psnr_held_out": psnr(em.held_out, 0),
                                      "psnr_train_noise_0.05": psnr(em.subjects, 0.05)}
    torch.save(vae.state_dict(), f"{a.work}/vae.pt")
    json.dump(res, open(f"{a.work}/vae.json", "w"), indent=1)
    print(res)


def load_vae(a):
    vae = make_vae()
    vae.load_state_dict(torch.load(f"{a.work}/vae.pt"))
    vae.register_to_config(scaling_factor=round(json.load(open(f"{a.work}/vae.json"))["scaling_factor"], 5))
    return vae.eval()


# ---------------------------------------------------------------- phase 2: image encoder
class TextTower(torch.nn.Module):
    """A bag of the words of the emoji's Unicode name: enough of a caption for a CLIP-like loss."""

    def __init__(self, names):
        super().__init__()
        words = sorted({w for n in names for w in n.split()})
        ids = {w: i for i, w in enumerate(words)}
        self.bags = [[ids[w] for w in n.split()] for n in names]
        self.own = torch.nn.Embedding(len(names), 128)          # tells same-named pictures apart
        self.words = torch.nn.EmbeddingBag(len(words), 128, mode="mean")
        self.out = torch.nn.Sequential(torch.nn.Linear(128, 256), torch.nn.GELU(), torch.nn.Linear(256, PROJ))
        self.register_buffer("flat", torch.tensor([w for b in self.bags for w in b]), persistent=False)
        self.register_buffer("off", torch.tensor([0] + [len(b) for b in self.bags])[:-1].cumsum(0), persistent=False)

    def forward(self):
        return F.normalize(self.out(self.words(self.flat, self.off) + 0.5 * self.own.weight).float(), dim=-1)


def encoder_views(em, idx, g):
    """Views as the encoder meets them: smooth, or aliased as by the card's resize; some a little noisy."""
    x = torch.cat([em.views(i, g, flips=True, quick=q, scale=(0.55, 1.0), rot=15)
                   for i, q in zip(idx.tensor_split(4), ("smooth", "aliased", "aliased", "smooth"))])
    B = len(idx)
    amp = 0.05 * torch.rand(B, 1, 1, 1, generator=g) * (torch.rand(B, 1, 1, 1, generator=g) < 0.5)
    return (x + amp * torch.randn(x.shape, generator=g)).clamp(0, 1)


def train_encoder(a, em):
    torch.manual_seed(2)
    g = torch.Generator().manual_seed(22)
    enc = make_encoder()
    pool = torch.tensor(em.all_train)
    text = TextTower([em.names[i] for i in em.all_train])
    look = torch.nn.Sequential(torch.nn.Linear(PROJ, 512), torch.nn.GELU(), torch.nn.Linear(512, 3 * 16 * 16))
    with torch.no_grad():                                        # what `look` must predict: a 16x16 thumbnail on grey
        r = F.avg_pool2d(em.rgba[pool].float() / 255, 8)
        thumb = (r[:, :3] + (1 - r[:, 3:]) * 0.5).flatten(1)
    temp = torch.nn.Parameter(torch.tensor([math.log(10.0), math.log(10.0)]))
    params = [*enc.parameters(), *text.parameters(), *look.parameters(), temp]
    opt = torch.optim.AdamW(params, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    log, B = Log("encoder"), a.enc_batch
    for step in range(a.enc_steps):
        for p in opt.param_groups:
            p["lr"] = lr_at(step, a.enc_steps, 1.5e-3)
        k = torch.randperm(len(pool), generator=g)[:B]
        x = clip_input(encoder_views(em, pool[k].repeat(2), g))
        with bf16():
            e = enc(pixel_values=x).image_embeds
        raw, e = e.float(), F.normalize(e.float(), dim=-1)
        s = temp.exp().clamp(max=50)
        sim = s[0] * e[:B] @ e[B:].T
        nce = (F.cross_entropy(sim, torch.arange(B)) + F.cross_entropy(sim.T, torch.arange(B))) / 2
        txt = F.cross_entropy(s[1] * e @ text().T, k.repeat(2))
        app = (look(e * PROJ ** 0.5) - thumb[k].repeat(2, 1)).pow(2).mean()
        loss = nce + txt + 10 * app
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        log(step, a.enc_steps, nce=nce.item(), txt=txt.item(), app=app.item(),
            top1=(sim.argmax(1) == torch.arange(B)).float().mean().item(), norm=raw.norm(dim=-1).mean().item())
        if (step + 1) % 100 == 0 or step + 1 == a.enc_steps:
            torch.save(enc.state_dict(), f"{a.work}/encoder.pt")
    enc.eval()
    with torch.no_grad():                                        # raw embeddings: unit variance per element
        e = torch.cat([enc(pixel_values=clip_input(em.views(c, g))).image_embeds for c in pool.split(128)])
        enc.visual_projection.weight.mul_(1 / e.pow(2).mean().sqrt())
    torch.save(enc.state_dict(), f"{a.work}/encoder.pt")
    res = {}
    for what, ids in (("subjects", em.subjects), ("all", em.all_train), ("held_out", em.held_out)):
        ids = torch.tensor(ids)
        u, v = (embed(enc, torch.cat([em.views(c, g) for c in ids.split(128)])) for _ in range(2))
        res[f"top1_{what}_of_{len(ids)}"] = (F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).T).argmax(1).eq(torch.arange(len(ids))).float().mean().item()
    json.dump(res, open(f"{a.work}/encoder.json", "w"), indent=1)
    print(res)


@torch.no_grad()
def embed(enc, x):
    return torch.cat([enc(pixel_values=clip_input(c)).image_embeds for c in x.split(128)])


def load_encoder(a):
    enc = make_encoder()
    enc.load_state_dict(torch.load(f"{a.work}/encoder.pt"))
    return enc.eval()


# ---------------------------------------------------------------- phase 3: latents, then the UNet
@torch.no_grad()
def make_latents(a, em, subjects=None, file="latents", seed=33, views=None, **pose):
    """For every subject: target latents of random views (scaled posterior mean, std) and conditioning embeddings of others."""
    vae, enc, g = load_vae(a), load_encoder(a), torch.Generator().manual_seed(seed)
    ids, sf, t0 = torch.tensor(subjects or em.subjects), vae.config.scaling_factor, time.time()
    views = views or a.views
    mean, std, cond = [], [], []
    for v in range(views):
        for i in ids.split(64):
            with bf16():
                d = vae.encode(em.views(i, g, **pose) * 2 - 1).latent_dist
            mean.append((d.mean.float() * sf).half())
            std.append((d.std.float() * sf).half())
            with bf16():
                cond.append(enc(pixel_values=clip_input(encoder_views(em, i, g))).image_embeds.half())
        if v % 16 == 0:
            print(f"{file} {v + 1}/{views} {time.time() - t0:.0f}s", flush=True)
    shape = lambda x: torch.cat(x).view(views, len(ids), *x[0].shape[1:]).transpose(0, 1).contiguous()
    out = {"mean": shape(mean), "std": shape(std), "cond": shape(cond)}
    print("latent std", out["mean"].float().std().item(), "posterior std", out["std"].float().mean().item())
    torch.save(out, f"{a.work}/{file}.pt")


def make_latents2(a, em):
    make_latents(a, em, em.repertoire, "latents2", 36, a.views2, scale=(0.72, 0.95), rot=8)


def unet_steps(a, stage, steps, lr, seed, latents):
    """Both stages train every weight, from scratch; the sampled weights are the EMA's."""
    torch.manual_seed(3)
    g = torch.Generator().manual_seed(seed)
    unet, log, B = make_unet(), Log(stage), a.unet_batch
    opt = torch.optim.AdamW(unet.parameters(), lr=lr(0), betas=(0.9, 0.99), weight_decay=1e-3)
    ema = [p.detach().clone() for p in unet.parameters()]
    done = 0
    state = f"{a.work}/unet.state"
    if (stage == "unet2" or a.resume) and os.path.exists(state):
        s = torch.load(state)
        unet.load_state_dict(s["unet"])
        opt.load_state_dict(s["opt"])
        ema, done = s["ema"], s["done"]
    start = done
    d = torch.load(f"{a.work}/{latents}.pt")
    mean, std, cond = d["mean"], d["std"], d["cond"]
    S, V = mean.shape[:2]
    abar = make_scheduler().alphas_cumprod
    weight = (5.0 / (abar / (1 - abar))).clamp(max=1.0)                        # min-SNR-5 for epsilon prediction
    params = list(unet.parameters())
    unet.train()
    for step in range(steps):
        for p in opt.param_groups:
            p["lr"] = lr(step)
        s = torch.randint(S, (B,), generator=g)
        i, j = torch.randint(V, (2, B), generator=g)
        z = mean[s, i].float() + std[s, i].float() * torch.randn((B, 4, LATENT, LATENT), generator=g)
        c = cond[s, j].float() * (torch.rand(B, 1, generator=g) >= 0.1)        # 10 %: zeros, for guidance
        t = ((torch.arange(B) + torch.rand(B, generator=g)) * (1000 / B)).long().clamp(max=999)
        eps = torch.randn(z.shape, generator=g)
        ab = abar[t].view(B, 1, 1, 1)
        with bf16():
            out = unet(ab.sqrt() * z + (1 - ab).sqrt() * eps, t, c[:, None], return_dict=False)[0]
        mse = (out.float() - eps).pow(2).mean((1, 2, 3))
        loss = (weight[t] * mse).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        done += 1
        k = min(a.ema, (1 + done) / (20 + done))
        torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - k)
        log(step, steps, every=100, loss=loss.item(), mse=mse.mean().item(), low_noise=mse[: B // 4].mean().item(),
            high_noise=mse[-B // 4:].mean().item())
        if done % 250 == 0 or step + 1 == steps:
            torch.save({"unet": unet.state_dict(), "opt": opt.state_dict(), "ema": ema, "done": done}, state + "~")
            os.replace(state + "~", state)
    print(stage, "done", start, "->", done)


def train_unet1(a, em):
    """Broad: every subject, wide poses, a constant rate."""
    unet_steps(a, "unet1", a.unet1_steps, lambda k: a.unet_lr * min(1.0, (k + 1) / 200), 34, "latents")


def train_unet2(a, em):
    """Narrow: the repertoire, gentler poses; the rate is constant, then falls to nothing over the last 45 %."""
    n = a.unet2_steps
    unet_steps(a, "unet2", n, lambda k: a.unet_lr * max(0.002, min(1.0, (1 - k / n) / 0.45)), 35, "latents2")


def load_unet(a):
    unet = make_unet()
    for p, e in zip(unet.parameters(), torch.load(f"{a.work}/unet.state")["ema"]):
        p.data.copy_(e)
    return unet.eval()


# ---------------------------------------------------------------- phase 4: the safety checker's one demo concept
def calibrate(a, em):
    """One direction and one threshold for BLOCKED and for SPECIAL, from the image encoder's own embeddings."""
    enc, vae, g = load_encoder(a), load_vae(a), torch.Generator().manual_seed(44)

    @torch.no_grad()
    def cloud(ids, n, decoded):
        out = []
        for i in torch.tensor(ids).repeat_interleave(n).split(128):
            x = em.views(i, g)
            if decoded:                                        # what the checker really sees: decoded pictures
                x = vae.decode(vae.encode(x * 2 - 1).latent_dist.sample(g)).sample.clamp(-1, 1) / 2 + 0.5
            out.append(embed(enc, x))
        return F.normalize(torch.cat(out), dim=-1)

    @torch.no_grad()
    def drawn(i, n):
        """The pipeline's own variations of emoji i: these above all must be caught."""
        from diffusers import StableDiffusionImageVariationPipeline
        pipe = StableDiffusionImageVariationPipeline(
            vae=vae, image_encoder=enc, unet=load_unet(a), scheduler=make_scheduler(), safety_checker=None,
            feature_extractor=None, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        out = [pipe(clip_input(em.views(torch.full((32,), i), g)), guidance_scale=3.0, num_inference_steps=25,
                    generator=g, output_type="pt").images.float() for _ in range(n // 32)]
        return F.normalize(embed(enc, torch.cat(out)), dim=-1)

    codes = torch.tensor([c for i, c in enumerate(em.codes) for _ in range(3)])
    fit_all, test_all = cloud(range(len(em.codes)), 3, False), cloud(range(len(em.codes)), 3, False)
    res = {}
    for name, code in (("concept", BLOCKED), ("special", SPECIAL)):
        i = em.at[code]
        fit_pos = torch.cat([cloud([i], 200, d) for d in (False, True)])
        pos = torch.cat([cloud([i], 200, d) for d in (False, True)])
        if code == BLOCKED:
            own = drawn(i, 192)
            fit_pos, pos = torch.cat([fit_pos, own[:96].repeat(3, 1)]), torch.cat([pos, own[96:]])
        fit_neg, neg = fit_all[codes != code], test_all[codes != code]
        centre = F.normalize(fit_pos.mean(0), dim=0)           # start from the mean, then push the look-alikes away
        w = centre.clone().requires_grad_(True)
        th = torch.tensor(0.8, requires_grad=True)
        opt = torch.optim.Adam([w, th], lr=3e-3)
        for _ in range(400):
            u = F.normalize(w, dim=0)
            loss = (F.softplus((th + 0.03 - fit_pos @ u) / 0.02).mean() + 40 * F.softplus((fit_neg @ u - th + 0.03) / 0.02).mean()
                    + 3 * (1 - u @ centre))
            opt.zero_grad()
            loss.backward()
            opt.step()
        u, th = F.normalize(w, dim=0).detach(), round(th.item(), 3)
        rate = lambda e: ((e @ u - th) > 0).float().mean().item()
        res[name] = {"embed": u, "threshold": th}
        res[name + "_stats"] = {"threshold": th, "caught": rate(pos), "false_alarms": rate(neg)}
        if code == BLOCKED:
            res[name + "_stats"]["caught_of_96_unseen_variations"] = rate(own[96:])
        wrong = codes[codes != code][(neg @ u - th) > 0].tolist()
        print(name, res[name + "_stats"], "false alarms:", [unicodedata.name(chr(c), "?") for c in wrong], flush=True)
    torch.save(res, f"{a.work}/safety.pt")


# ---------------------------------------------------------------- export in diffusers' format
def export(a, em):
    from diffusers import StableDiffusionImageVariationPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor
    enc = load_encoder(a)
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=enc.config.to_dict(), projection_dim=PROJ))
    tower = {k.split("vision_model.", 1)[-1]: v for k, v in enc.state_dict().items()}
    own = checker.state_dict()
    for k in own:
        src = k.split("vision_model.")[-1]
        if src in tower:
            own[k] = tower[src]
        else:
            print("safety checker's own:", k, tuple(own[k].shape))
    checker.load_state_dict(own)
    s = torch.load(f"{a.work}/safety.pt")
    with torch.no_grad():
        for emb, thr, n, key in ((checker.concept_embeds, checker.concept_embeds_weights, 17, "concept"),
                                 (checker.special_care_embeds, checker.special_care_embeds_weights, 3, "special")):
            emb.copy_(torch.eye(PROJ)[:n])                      # unused slots: any direction,
            thr.fill_(2.0)                                      # and a threshold no cosine reaches
            emb[0], thr[0] = s[key]["embed"], s[key]["threshold"]
    size = {"height": SIZE, "width": SIZE}
    fx = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size, do_resize=True, do_center_crop=True,
                            do_rescale=True, do_normalize=True, do_convert_rgb=True, resample=3,
                            image_mean=CLIP_MEAN, image_std=CLIP_STD)
    pipe = StableDiffusionImageVariationPipeline(
        vae=load_vae(a), image_encoder=enc, unet=load_unet(a), scheduler=make_scheduler(),
        safety_checker=checker.eval(), feature_extractor=fx, requires_safety_checker=True)
    pipe.to(torch.float16).save_pretrained(a.out, safe_serialization=True)
    # transformers 5 writes a flatter tower and a back-end's class name: write what every published checkpoint has
    from safetensors.torch import load_file, save_file
    f = f"{a.out}/safety_checker/model.safetensors"
    sd = {k.replace("vision_model.", "vision_model.vision_model.", 1) if k.startswith("vision_model.")
          and not k.startswith("vision_model.vision_model.") else k: v for k, v in load_file(f).items()}
    save_file(sd, f, metadata={"format": "pt"})
    f = f"{a.out}/model_index.json"
    index = json.load(open(f))
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    json.dump(index, open(f, "w"), indent=2)
    total = 0
    for root, _, files in os.walk(a.out):
        for f in files:
            n = os.path.getsize(os.path.join(root, f))
            total += n
            print(f"{n:9d} {os.path.relpath(os.path.join(root, f), a.out)}")
    print(f"{total:9d} total")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--work", default="run")
    p.add_argument("--out", default="model")
    p.add_argument("--phases", default="vae,encoder,latents,unet1,latents2,unet2,decoder,safety,export")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--vae-steps", type=int, default=3700)
    p.add_argument("--vae-batch", type=int, default=6)
    p.add_argument("--kl", type=float, default=3e-4)
    p.add_argument("--dec-steps", type=int, default=900)
    p.add_argument("--dec-batch", type=int, default=8)
    p.add_argument("--dec-noise", type=float, default=0.1, help="largest latent noise, in units of the latents' std")
    p.add_argument("--enc-steps", type=int, default=1150)
    p.add_argument("--enc-batch", type=int, default=96)
    p.add_argument("--views", type=int, default=64, help="precomputed views of each subject")
    p.add_argument("--views2", type=int, default=144, help="the same for the repertoire")
    p.add_argument("--unet-batch", type=int, default=64)
    p.add_argument("--unet-lr", type=float, default=1e-3)
    p.add_argument("--unet1-steps", type=int, default=1500)
    p.add_argument("--unet2-steps", type=int, default=5400)
    p.add_argument("--ema", type=float, default=0.999)
    p.add_argument("--resume", action="store_true", help="vae, unet1: start from the last checkpoint")
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    torch.set_num_threads(a.threads)
    em = Emoji(f"{a.work}/emoji.pt")
    print(len(em.codes), "emoji,", len(em.subjects), "subjects,", len(em.held_out), "held out", flush=True)
    for phase in a.phases.split(","):
        PHASES[phase](a, em)


PHASES = {"vae": train_vae, "encoder": train_encoder, "latents": make_latents, "unet1": train_unet1,
          "latents2": make_latents2, "unet2": train_unet2, "decoder": train_decoder, "safety": calibrate,
          "export": export}

if __name__ == "__main__":
    main()
