"""Phase encoder: a CLIP-like image encoder, which learns what an emoji is of and how it looks."""
import json, math

import torch
import torch.nn.functional as F

from loop import Log, bf16, descend, lr_at, set_rate
from networks import PROJ, clip_input, embed, make_encoder


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
        set_rate(opt, lr_at(step, a.enc_steps, 1.5e-3))
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
        descend(opt, loss, params)
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
