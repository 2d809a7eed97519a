"""Phases latents, unet1, latents2 and unet2: the UNet learns from latents that are made beforehand."""
import os, time

import torch

from encoder_phase import encoder_views
from loop import Log, bf16, descend, set_rate
from networks import LATENT, clip_input, load_encoder, load_vae, make_scheduler, make_unet


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
        set_rate(opt, lr(step))
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
        descend(opt, loss, params)
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
