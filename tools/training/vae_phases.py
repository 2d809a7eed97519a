"""Phases vae and decoder: pictures to latents and back."""
import json, math, os

import torch
import torch.nn.functional as F

from loop import Log, bf16, descend, lr_at, set_rate
from networks import load_vae, make_vae


def likeness(y, x):
    """How far pictures y are from x: the loss, and its terms for the log."""
    dx = lambda x: x[..., 1:] - x[..., :-1]
    dy = lambda x: x[..., 1:, :] - x[..., :-1, :]
    rec, mse = (y - x).abs().mean(), (y - x).pow(2).mean()
    edge = (dx(y) - dx(x)).abs().mean() + (dy(y) - dy(x)).abs().mean()
    low = (F.avg_pool2d(y, 8) - F.avg_pool2d(x, 8)).pow(2).mean()              # or it forgets green for long
    return rec + mse + 20 * low + 0.5 * edge, {"rec": rec.item(), "mse": mse.item(), "low": low.item(), "edge": edge.item()}


def train_vae(a, em):
    torch.manual_seed(1)
    g = torch.Generator().manual_seed(11)
    vae = make_vae()
    if a.resume and os.path.exists(f"{a.work}/vae.pt"):
        vae.load_state_dict(torch.load(f"{a.work}/vae.pt"))
    opt = torch.optim.AdamW(vae.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    pool, log = torch.tensor(em.all_train), Log("vae")
    for step in range(a.vae_steps):
        set_rate(opt, lr_at(step, a.vae_steps, 1.5e-3))
        B = a.vae_batch if step < 0.9 * a.vae_steps else 3 * a.vae_batch       # many cheap steps, a calmer end
        x = em.views(pool[torch.randint(len(pool), (B,), generator=g)], g, flips=True, rot=25) * 2 - 1
        with bf16():
            post = vae.encode(x).latent_dist
            z = post.mean + post.std * torch.randn(post.mean.shape, generator=g)
            y = vae.decode(z).sample
        y, mu, lv = y.float(), post.mean.float(), post.logvar.float()
        loss, terms = likeness(y, x)
        kl = 0.5 * (mu ** 2 + lv.exp() - 1 - lv).mean()
        loss = loss + a.kl * kl
        descend(opt, loss, vae.parameters())
        log(step, a.vae_steps, every=100, **terms, kl=kl.item())
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
    for step in range(a.dec_steps):
        set_rate(opt, lr_at(step, a.dec_steps, 1e-3))
        k = torch.randint(len(pool), (a.dec_batch,), generator=g)
        x = em.views(pool[k], g, flips=True, rot=20) * 2 - 1
        with torch.no_grad(), bf16():
            z = vae.encode(x).latent_dist.mean.float()
        amp = a.dec_noise * torch.rand(len(x), 1, 1, 1, generator=g) / res["scaling_factor"]
        with bf16():
            y = vae.decode(z + amp * torch.randn(z.shape, generator=g)).sample
        loss, terms = likeness(y.float(), x)
        descend(opt, loss, params)
        log(step, a.dec_steps, every=100, **terms)
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
