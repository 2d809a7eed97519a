"""The networks, as diffusers and transformers make them, and as the phases left them in --work."""
import json

import torch
import torch.nn.functional as F

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
SIZE, LATENT, PROJ = 64, 16, 192


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


def load_vae(a):
    vae = make_vae()
    vae.load_state_dict(torch.load(f"{a.work}/vae.pt"))
    vae.register_to_config(scaling_factor=round(json.load(open(f"{a.work}/vae.json"))["scaling_factor"], 5))
    return vae.eval()


def load_encoder(a):
    enc = make_encoder()
    enc.load_state_dict(torch.load(f"{a.work}/encoder.pt"))
    return enc.eval()


def load_unet(a):
    unet = make_unet()
    for p, e in zip(unet.parameters(), torch.load(f"{a.work}/unet.state")["ema"]):
        p.data.copy_(e)
    return unet.eval()


@torch.no_grad()
def embed(enc, x):
    return torch.cat([enc(pixel_values=clip_input(c)).image_embeds for c in x.split(128)])
