"""Phase safety: the safety checker's one demo concept."""
import unicodedata

import torch
import torch.nn.functional as F

from emoji_pictures import BLOCKED, SPECIAL
from networks import clip_input, embed, load_encoder, load_unet, load_vae, make_scheduler


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
