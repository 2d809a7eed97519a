#!/usr/bin/env python3
"""Makes a model folder of the published checkpoint's architecture with random weights (4.9 GB, float32).

    .venv/bin/python tools/make_full_size_model.py FOLDER

The weights are torch's default initialisation from a fixed seed. Two layers are scaled, so that the image embedding and
the noise prediction have unit variance, as trained ones have: otherwise the UNet's part in the latents would be too
small to be compared. The safety checker looks with the image encoder's tower, as in the published checkpoint.
"""
import argparse

import torch
import transformers
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionImageVariationPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

TOWER = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
             patch_size=14, hidden_act="quick_gelu", projection_dim=768)


@torch.no_grad()
def scale_to_unit(weights, bias, sample):
    """Makes the layer's output `sample` have unit variance."""
    weights /= sample.std()
    if bias is not None:
        bias /= sample.std()


@torch.no_grad()
def make_networks():
    torch.manual_seed(1)
    encoder = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**TOWER)).eval()
    scale_to_unit(encoder.visual_projection.weight, None, encoder(torch.randn(1, 3, 224, 224)).image_embeds)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, attention_head_dim=8,
        cross_attention_dim=768, down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3).eval()
    prediction = unet(torch.randn(1, 4, 16, 16), 500, encoder_hidden_states=torch.randn(1, 1, 768)).sample
    scale_to_unit(unet.conv_out.weight, unet.conv_out.bias, prediction)
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=256,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval()
    checker = StableDiffusionSafetyChecker(transformers.CLIPConfig(vision_config=TOWER, projection_dim=768)).eval()
    checker.vision_model.load_state_dict(encoder.vision_model.state_dict())
    for embeds, thresholds in ((checker.concept_embeds, checker.concept_embeds_weights),
                               (checker.special_care_embeds, checker.special_care_embeds_weights)):
        embeds.copy_(torch.randn_like(embeds))
        thresholds.fill_(0.9)
    return encoder, unet, vae, checker


def make_model(folder):
    encoder, unet, vae, checker = make_networks()
    StableDiffusionImageVariationPipeline(
        image_encoder=encoder, unet=unet, vae=vae, safety_checker=checker,
        scheduler=PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
                                set_alpha_to_one=False, skip_prk_steps=True),
        feature_extractor=transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}, resample=3,
            image_mean=transformers.image_utils.OPENAI_CLIP_MEAN, image_std=transformers.image_utils.OPENAI_CLIP_STD),
    ).save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    make_model(parser.parse_args().folder)
