#!/usr/bin/env python3
"""Makes tests/golden/samplers/samplers.json: what diffusers' schedulers do with one number for latents.

    tools/setup.sh oracle
    .venv/bin/python tools/make_sampler_golden.py

Each case is a scheduler_config.json, a sampler made from it as diffusers makes one scheduler from another's config
(`from_config`), a step count and eta. Two functions stand in for the UNet, "lin": 0.1 x and "lin_t": 0.1 x +
0.2 sin(0.01 t), of the unscaled latents x, which start at init_noise_sigma; noise is 0.5 wherever it is drawn.
"""
import json
import math
import pathlib
from unittest import mock

import diffusers
import torch
from diffusers.schedulers import scheduling_ddim

OUTPUT = pathlib.Path("tests/golden/samplers/samplers.json")
CLASSES = {
    "pndm": diffusers.PNDMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
}
BUNDLED = json.loads(pathlib.Path("demo/model/scheduler/scheduler_config.json").read_text())
# What sd-image-variations-diffusers v2.0 ships: no timestep_spacing, so each sampler takes its own default.
PUBLISHED = dict(_class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                 num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1,
                 clip_sample=False, trained_betas=None)
CONFIGS = {
    "bundled": BUNDLED,
    "published": PUBLISHED,
    "linspace": dict(PUBLISHED, timestep_spacing="linspace"),
    "trailing": dict(PUBLISHED, timestep_spacing="trailing"),
    "v_prediction": dict(PUBLISHED, prediction_type="v_prediction"),
    "sample": dict(PUBLISHED, prediction_type="sample"),
    "offset_0": dict(PUBLISHED, steps_offset=0),
    "alpha_one": dict(PUBLISHED, set_alpha_to_one=True),
    "linear": dict(PUBLISHED, beta_schedule="linear", num_train_timesteps=400),
    "cosine": dict(PUBLISHED, beta_schedule="squaredcos_cap_v2"),
    "trained": dict(PUBLISHED, num_train_timesteps=8, trained_betas=[0.01, 0.02, 0.03, 0.05, 0.08, 0.13, 0.21, 0.34]),
    "class_defaults": dict(_class_name="PNDMScheduler", skip_prk_steps=True),
    "own_ddim": dict(_class_name="DDIMScheduler", beta_schedule="scaled_linear", clip_sample=False),
    "own_euler": dict(_class_name="EulerDiscreteScheduler", timestep_spacing="trailing"),
    "own_dpmpp_2m": dict(_class_name="DPMSolverMultistepScheduler", lambda_min_clipped=-math.inf),
}
TRACED = ("bundled", "published")
MODELS = {"lin": lambda x, t: 0.1 * x, "lin_t": lambda x, t: 0.1 * x + 0.2 * math.sin(0.01 * t)}


def make(config, sampler):
    """From the file, as from_pretrained reads it; clip_sample is for pixels, and off here."""
    own = next(cls for cls in CLASSES.values() if cls.__name__ == config["_class_name"])
    options = {"clip_sample": False} if sampler == "ddim" else {}
    if sampler == "pndm":
        options["skip_prk_steps"] = True
    return CLASSES[sampler].from_config(own.from_config(config).config, **options)


def constant_noise(shape, dtype=None, **_):
    return torch.full(tuple(shape), 0.5, dtype=dtype)


def trace(config, sampler, steps, eta, model):
    scheduler = make(config, sampler)
    scheduler.set_timesteps(steps)
    options = {"eta": eta} if sampler == "ddim" else {}
    x = torch.full((1, 1, 1, 1), float(scheduler.init_noise_sigma), dtype=torch.float64)
    inputs, latents = [], []
    with mock.patch.object(scheduling_ddim, "randn_tensor", side_effect=constant_noise) as draws:
        for t in scheduler.timesteps:
            inputs.append(float(scheduler.scale_model_input(x, t)))
            x = scheduler.step(MODELS[model](x, float(t)), t, x, **options).prev_sample
            latents.append(float(x))
    return inputs, latents, draws.call_count


def case(name, sampler, steps, eta):
    scheduler = make(CONFIGS[name], sampler)
    scheduler.set_timesteps(steps)
    golden = {"config": name, "sampler": sampler, "num_inference_steps": steps, "eta": eta,
              "init_noise_sigma": float(scheduler.init_noise_sigma),
              "timesteps": [float(t) for t in scheduler.timesteps]}
    for model in MODELS:
        inputs, latents, golden["noise_draws"] = trace(CONFIGS[name], sampler, steps, eta, model)
        golden[model] = {"model_inputs": inputs, "latents": latents} if steps <= 10 else {"final": latents[-1]}
    return golden


def cases():
    for name, config in CONFIGS.items():
        for sampler in CLASSES:
            if name == "sample" and sampler == "pndm":
                continue  # diffusers' PNDM has no such prediction type
            for steps in (1, 2, 3, 5, 10, 25, 50) if name in TRACED else (3, 10):
                if steps >= config.get("num_train_timesteps", 1000):
                    continue
                for eta in (0.0, 1.0) if sampler == "ddim" else (0.0,):
                    yield case(name, sampler, steps, eta)


def tables():
    scheduler = make(PUBLISHED, "pndm")
    alphas = scheduler.alphas_cumprod
    picks = (0, 1, 10, 57, 100, 250, 499, 500, 501, 750, 900, 998, 999)
    return {"betas": {str(i): float(scheduler.betas[i]) for i in picks},
            "alphas_cumprod": {str(i): float(alphas[i]) for i in picks},
            "betas_sum": float(scheduler.betas.double().sum()),
            "alphas_cumprod_sum": float(alphas.double().sum())}


def main():
    torch.set_num_threads(1)
    golden = {"versions": {"diffusers": diffusers.__version__, "torch": torch.__version__},
              # Infinity is how diffusers writes it; null is how a strict reader sees it.
              "configs": {name: {k: None if v == -math.inf else v for k, v in config.items()}
                          for name, config in CONFIGS.items()},
              "tables_of_published": tables(),
              "cases": list(cases())}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(golden_case) for golden_case in golden.pop("cases")]
    text = json.dumps(golden, indent=1)[:-2] + ',\n "cases": [\n' + ",\n".join(lines) + "\n]}\n"
    OUTPUT.write_text(text)
    print(f"{OUTPUT}: {len(lines)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
