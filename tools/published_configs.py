"""The configs of sd-image-variations-diffusers v2.0, for checkpoints that have none: {file: its JSON}."""

SAFETY_CHECKER = ["stable_diffusion", "StableDiffusionSafetyChecker"]
CONFIGS = {
    "model_index.json": {
        "_class_name": "StableDiffusionImageVariationPipeline", "_diffusers_version": "0.9.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"], "requires_safety_checker": True,
        "safety_checker": SAFETY_CHECKER, "scheduler": ["diffusers", "PNDMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]},
    "feature_extractor/preprocessor_config.json": {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": True, "do_rescale": True,
        "do_normalize": True, "do_convert_rgb": True, "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224}, "resample": 3, "rescale_factor": 0.00392156862745098,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]},
    "image_encoder/config.json": {
        "architectures": ["CLIPVisionModelWithProjection"], "model_type": "clip_vision_model", "hidden_size": 1024,
        "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
        "num_channels": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-05, "projection_dim": 768},
    "scheduler/scheduler_config.json": {
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.9.0", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1, "clip_sample": False, "trained_betas": None},
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.9.0", "sample_size": 64, "in_channels": 4,
        "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "attention_head_dim": 8,
        "cross_attention_dim": 768, "act_fn": "silu", "norm_num_groups": 32, "norm_eps": 1e-05, "downsample_padding": 1,
        "mid_block_scale_factor": 1, "flip_sin_to_cos": True, "freq_shift": 0, "center_input_sample": False,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]},
    "vae/config.json": {
        "_class_name": "AutoencoderKL", "_diffusers_version": "0.9.0", "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2, "in_channels": 3, "out_channels": 3, "latent_channels": 4, "norm_num_groups": 32,
        "act_fn": "silu", "sample_size": 512, "scaling_factor": 0.18215,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4},
}
