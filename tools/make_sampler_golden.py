#!/usr/bin/env python3
"""Makes tests/golden/samplers/samplers.json: what diffusers' schedulers do with one number for latents.

    tools/setup.sh oracle
    .venv/bin/python tools/make_sampler_golden.py

Each case is a scheduler_config.json, a sampler made from it as diffusers makes one scheduler from another's config
(`from_config`), a step count and eta. Two functions stand in for the UNet, "lin": 0.1 x and "lin_t": 0.1 x +
0.2 sin(0.01 t), of the unscaled latents x, which start at init_noise_sigma; noise is 0.5 wherever it is drawn.
"""
import contextlib
import json
import math
import pathlib
import sys
from unittest import mock

import diffusers
import torch

from diffusers_samplers import SAMPLERS

OUTPUT = pathlib.Path("tests/golden/samplers/samplers.json")
BUNDLED = json.loads(pathlib.Path("demo/model/scheduler/scheduler_config.json").read_text())
# What sd-image-variations-diffusers v2.0 ships: no timestep_spacing, so each sampler takes its own default.
PUBLISHED = dict(_class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                 num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1,
                 clip_sample=False, trained_betas=None)
CONFIGS = {
    "bundled": BUNDLED,
    "published": PUBLISHED,
    "offset_0": dict(PUBLISHED, steps_offset=0),
    "alpha_one": dict(PUBLISHED, set_alpha_to_one=True),
    "linear": dict(PUBLISHED, beta_schedule="linear", num_train_timesteps=400),
    "cosine": dict(PUBLISHED, beta_schedule="squaredcos_cap_v2"),
    "trained": dict(PUBLISHED, num_train_timesteps=8, trained_betas=[0.01, 0.02, 0.03, 0.05, 0.08, 0.13, 0.21, 0.34]),
    "class_defaults": dict(_class_name="PNDMScheduler", skip_prk_steps=True),
    "own_ddim": dict(_class_name="DDIMScheduler", beta_schedule="scaled_linear", clip_sample=False),
    "own_euler": dict(_class_name="EulerDiscreteScheduler", timestep_spacing="trailing"),
    "own_heun": dict(_class_name="HeunDiscreteScheduler"),
    "own_lcm": dict(_class_name="LCMScheduler", original_inference_steps=20, timestep_scaling=7.5),
    "own_dpmpp_2m": dict(_class_name="DPMSolverMultistepScheduler", lambda_min_clipped=-math.inf),
}
# Every sampler takes what it has of these.
SOLVERS = {
    "karras": dict(PUBLISHED, use_karras_sigmas=True),
    "sigma_min": dict(PUBLISHED, final_sigmas_type="sigma_min"),
    "karras_sigma_min": dict(PUBLISHED, use_karras_sigmas=True, final_sigmas_type="sigma_min"),
    "solver_heun": dict(PUBLISHED, solver_type="heun"),
    "euler_at_final": dict(PUBLISHED, euler_at_final=True, final_sigmas_type="sigma_min"),
    "high_order_final": dict(PUBLISHED, lower_order_final=False, final_sigmas_type="sigma_min"),
    "large_variance": dict(PUBLISHED, variance_type="fixed_large"),
}
# Fewer timesteps than LCM needs; and where diffusers steps over the end of its own schedule.
LEFT_OUT = {("trained", "lcm"), ("cosine", "dpmpp-2m-karras"), ("cosine", "dpmpp-2m-sde-karras")}
SPACINGS = ("leading", "linspace", "trailing")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
MATRIX = {f"{spacing}_{prediction}": dict(PUBLISHED, _class_name="DDIMScheduler", timestep_spacing=spacing,
                                          prediction_type=prediction)
          for spacing in SPACINGS for prediction in PREDICTION_TYPES}
WITHOUT_SAMPLE = ("pndm", "euler-ancestral")  # in diffusers they have no prediction type sample
MODELS = {"lin": lambda x, t: 0.1 * x, "lin_t": lambda x, t: 0.1 * x + 0.2 * math.sin(0.01 * t)}


def make(config, sampler):
    """From the file, as from_pretrained reads it. The betas are those of the file's class, also where it leaves them
    open: the noise that the model was trained with does not depend on the sampler."""
    own = getattr(diffusers, config["_class_name"]).from_config(config)
    cls, options = SAMPLERS[sampler]
    betas = {key: own.config[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    return cls.from_config(own.config, **betas, **options)


def constant_noise(shape, dtype=None, **_):
    return torch.full(tuple(shape), 0.5, dtype=dtype)


def trace(config, sampler, steps, eta, model):
    scheduler = make(config, sampler)
    scheduler.set_timesteps(steps)
    options = {"eta": eta} if sampler == "ddim" else {}
    x = torch.full((1, 1, 1, 1), float(scheduler.init_noise_sigma), dtype=torch.float64)
    inputs, latents = [], []
    module = sys.modules[type(scheduler).__module__]
    with contextlib.ExitStack() as patches:
        draws = (patches.enter_context(mock.patch.object(module, "randn_tensor", side_effect=constant_noise))
                 if hasattr(module, "randn_tensor") else mock.Mock(call_count=0))
        for t in scheduler.timesteps:
            inputs.append(float(scheduler.scale_model_input(x, t)))
            x = scheduler.step(MODELS[model](x, float(t)), t, x, **options).prev_sample
            latents.append(float(x))
    assert all(math.isfinite(value) for value in latents), (config, sampler, steps)
    return inputs, latents, draws.call_count


def short(number):
    return float(f"{number:.9g}")


def case(name, config, sampler, steps, eta=0.0, every_step=False):
    scheduler = make(config, sampler)
    scheduler.set_timesteps(steps)
    golden = {"config": name, "sampler": sampler, "num_inference_steps": steps, "eta": eta,
              "init_noise_sigma": short(scheduler.init_noise_sigma),
              "timesteps": [short(t) for t in scheduler.timesteps]}
    for model in MODELS:
        inputs, latents, golden["noise_draws"] = trace(config, sampler, steps, eta, model)
        traced = {"model_inputs": inputs, "latents": latents} if every_step else {"latents": latents[-1:]}
        golden[model] = {key: [short(value) for value in values] for key, values in traced.items()}
    return golden


def cases():
    for name, config in CONFIGS.items():
        for sampler in SAMPLERS:
            for steps in (1, 3, 10, 25) if name in ("bundled", "published") else (3, 10):
                too_many = config.get("num_train_timesteps", 1000)
                if steps >= too_many or (name, sampler) in LEFT_OUT:
                    continue
                for eta in (0.0, 1.0) if sampler == "ddim" else (0.0,):
                    yield case(name, config, sampler, steps, eta, every_step=name == "published" and steps == 10)
    for name, config in SOLVERS.items():
        for sampler in SAMPLERS:
            for steps in (4, 20):
                yield case(name, config, sampler, steps)
    for name, config in MATRIX.items():
        for sampler in SAMPLERS:
            if name.endswith("_sample") and sampler in WITHOUT_SAMPLE:
                continue
            for steps in (2, 5, 20, 50):
                yield case(name, config, sampler, steps)


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
    diffusers.utils.logging.set_verbosity_error()  # from_config tells of each key that a class does not know
    configs = CONFIGS | SOLVERS | MATRIX
    lines = [json.dumps(golden_case, separators=(",", ":")) for golden_case in cases()]
    golden = {"versions": {"diffusers": diffusers.__version__, "torch": torch.__version__},
              # Infinity is how diffusers writes it; null is how a strict reader sees it.
              "configs": {name: {k: None if v == -math.inf else v for k, v in config.items()}
                          for name, config in configs.items()},
              "tables_of_published": tables()}
    text = json.dumps(golden, indent=1)[:-2] + ',\n "cases": [\n' + ",\n".join(lines) + "\n]}\n"
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(text)
    print(f"{OUTPUT}: {len(lines)} cases, {len(text)} bytes")


if __name__ == "__main__":
    main()
