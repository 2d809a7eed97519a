#!/usr/bin/env python3
"""Train a tiny StableDiffusionImageVariationPipeline on Noto Color Emoji, on a CPU.

    .venv/bin/python tools/training/train.py --work run --out model     # every phase, in order
    .venv/bin/python tools/training/train.py --work run --phases vae    # one phase (its checkpoint lands in --work)

Phases: vae, encoder, latents, unet1, latents2, unet2, decoder, safety, export.  See demo/model/README.md.
"""
import argparse, os

import torch

from emoji_pictures import Emoji
from encoder_phase import train_encoder
from export_phase import export
from safety_phase import calibrate
from unet_phases import make_latents, make_latents2, train_unet1, train_unet2
from vae_phases import train_decoder, train_vae

PHASES = {"vae": train_vae, "encoder": train_encoder, "latents": make_latents, "unet1": train_unet1,
          "latents2": make_latents2, "unet2": train_unet2, "decoder": train_decoder, "safety": calibrate,
          "export": export}


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


if __name__ == "__main__":
    main()
