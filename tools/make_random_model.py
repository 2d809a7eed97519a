#!/usr/bin/env python3
"""Makes a small model of the architecture's family with a random configuration and random weights, all from one seed.

    .venv/bin/python tools/make_random_model.py SEED FOLDER

What varies is what a checkpoint's config.json files may say: channels, layers, heads, groups, where attention is, kinds
of projection and activation, sizes, the noise schedule and what the model predicts. Prints the configuration.
"""
import argparse
import random

import torch
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler,
                       StableDiffusionImageVariationPipeline, UNet2DConditionModel)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

from make_full_size_model import scale_to_unit

PIXEL_DEVIATION = 0.5   # of what the VAE decodes: a picture with contrast, not all of it clamped


def draw_channels(draw, blocks, groups):
    """Multiples of `groups`, and of 8 so that heads divide them."""
    unit = max(groups, 8)
    return tuple(unit * draw.randint(1, max(1, 48 // unit)) for _ in range(blocks))


def draw_attention(draw, blocks, kind):
    """Which blocks attend: at least one does."""
    chosen = [draw.random() < 0.6 for _ in range(blocks)]
    chosen[draw.randrange(blocks)] = True
    return tuple(f"{'CrossAttn' if attends else ''}{kind}" for attends in chosen)


def draw_unet(draw, latent_channels, projection_dim, sample_size):
    blocks, groups = draw.randint(2, 4), draw.choice((1, 2, 4, 8, 16, 32))
    return dict(
        sample_size=sample_size, in_channels=latent_channels, out_channels=latent_channels,
        block_out_channels=draw_channels(draw, blocks, groups), norm_num_groups=groups,
        layers_per_block=draw.randint(1, 3), cross_attention_dim=projection_dim,
        down_block_types=draw_attention(draw, blocks, "DownBlock2D"),
        up_block_types=draw_attention(draw, blocks, "UpBlock2D"),
        attention_head_dim=draw.choice((1, 2, 4, 8, tuple(draw.choice((1, 2, 4, 8)) for _ in range(blocks)))),
        use_linear_projection=draw.random() < 0.5, norm_eps=draw.choice((1e-5, 1e-6)),
        flip_sin_to_cos=draw.random() < 0.7, freq_shift=draw.choice((0, 0, 1)))


def draw_vae(draw, latent_channels):
    blocks, groups = draw.randint(2, 4), draw.choice((1, 4, 8))
    return dict(
        block_out_channels=draw_channels(draw, blocks, groups), norm_num_groups=groups,
        layers_per_block=draw.randint(1, 3), latent_channels=latent_channels, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * blocks, up_block_types=("UpDecoderBlock2D",) * blocks,
        scaling_factor=draw.choice((0.18215, 0.13025, 1.0)), use_post_quant_conv=draw.random() < 0.7,
        mid_block_add_attention=draw.random() < 0.7)


def draw_tower(draw, image_size):
    heads = draw.choice((1, 2, 4))
    return dict(
        image_size=image_size, patch_size=draw.choice((4, 8, 16)), hidden_size=heads * draw.choice((8, 12, 16)),
        num_attention_heads=heads, num_hidden_layers=draw.randint(1, 4), intermediate_size=draw.choice((24, 64, 100)),
        projection_dim=draw.choice((16, 24, 48)), hidden_act=draw.choice(("quick_gelu", "gelu")),
        layer_norm_eps=draw.choice((1e-5, 1e-6)))


def draw_scheduler(draw):
    prediction_type = draw.choice(("epsilon", "epsilon", "v_prediction", "v_prediction", "sample"))
    classes = [DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler]
    if prediction_type != "sample":   # which diffusers' PNDM does not have
        classes.append(PNDMScheduler)
    chosen = draw.choice(classes)
    options = dict(
        beta_start=draw.choice((0.00085, 0.0001)), beta_end=draw.choice((0.012, 0.02)),
        beta_schedule=draw.choice(("scaled_linear", "linear", "squaredcos_cap_v2")),
        num_train_timesteps=draw.choice((1000, 400)), prediction_type=prediction_type,
        timestep_spacing=draw.choice(("leading", "linspace", "trailing")), steps_offset=draw.choice((0, 1)))
    if chosen is PNDMScheduler:
        options |= dict(skip_prk_steps=True, set_alpha_to_one=draw.random() < 0.5)
    if chosen is DDIMScheduler:
        options |= dict(clip_sample=False, set_alpha_to_one=draw.random() < 0.5)
    return chosen, options


def draw_configuration(seed):
    """Everything that the seed says, by component."""
    draw = random.Random(f"configuration {seed}")   # of a text: small numbers as seeds begin alike
    latent_channels, image_size = draw.choice((3, 4, 8)), draw.choice((32, 48, 64))
    tower, judge = draw_tower(draw, image_size), draw_tower(draw, image_size)
    vae = draw_vae(draw, latent_channels)
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    sample_size = max(8, draw.choice((32, 48, 64)) // factor)
    unet = draw_unet(draw, latent_channels, tower["projection_dim"], sample_size)
    scheduler, options = draw_scheduler(draw)
    return {"unet": unet, "vae": vae, "image_encoder": tower, "safety_checker": judge,
            "scheduler": {"_class_name": scheduler.__name__, **options}}, scheduler(**options)


@torch.no_grad()
def make_networks(config):
    """In unit variance, so that every part shows in the picture."""
    tower, side = config["image_encoder"], config["image_encoder"]["image_size"]
    encoder = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**tower)).eval()
    scale_to_unit(encoder.visual_projection.weight, None, encoder(torch.randn(4, 3, side, side)).image_embeds)
    unet = UNet2DConditionModel(**config["unet"]).eval()
    latents = torch.randn(2, config["unet"]["in_channels"], 16, 16)
    embeds = torch.randn(2, 1, tower["projection_dim"])
    scale_to_unit(unet.conv_out.weight, unet.conv_out.bias, unet(latents, 200, encoder_hidden_states=embeds).sample)
    vae = AutoencoderKL(**config["vae"]).eval()
    decoded = vae.decode(latents / vae.config.scaling_factor).sample / PIXEL_DEVIATION
    scale_to_unit(vae.decoder.conv_out.weight, vae.decoder.conv_out.bias, decoded)
    judge = config["safety_checker"]
    checker = StableDiffusionSafetyChecker(
        transformers.CLIPConfig(vision_config=judge, projection_dim=judge["projection_dim"])).eval()
    for directions, thresholds in ((checker.concept_embeds, checker.concept_embeds_weights),
                                   (checker.special_care_embeds, checker.special_care_embeds_weights)):
        directions.copy_(torch.randn_like(directions))
        thresholds.fill_(1)   # nothing is blocked: a picture that is not shown cannot be compared
    return {"image_encoder": encoder, "unet": unet, "vae": vae, "safety_checker": checker}


def make_model(seed, folder):
    """Returns the configuration that was drawn."""
    config, scheduler = draw_configuration(seed)
    torch.manual_seed(seed)
    side = config["image_encoder"]["image_size"]
    StableDiffusionImageVariationPipeline(
        **make_networks(config), scheduler=scheduler,
        feature_extractor=transformers.CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, resample=3,
            image_mean=transformers.image_utils.OPENAI_CLIP_MEAN, image_std=transformers.image_utils.OPENAI_CLIP_STD),
    ).save_pretrained(folder, safe_serialization=True)
    return config


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=int)
    parser.add_argument("folder")
    arguments = parser.parse_args()
    for component, values in make_model(arguments.seed, arguments.folder).items():
        print(component, values)
