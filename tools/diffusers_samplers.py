"""Our samplers as diffusers has them: name -> (class, options that the name or this project fixes)."""
import diffusers

# The published checkpoint says clip_sample false; a configuration without the key would get the class's default, true,
# which is for pixels.
NO_CLIPPING = {"clip_sample": False}


def dpm_solver(algorithm_type, karras, **more):
    return diffusers.DPMSolverMultistepScheduler, {"algorithm_type": algorithm_type, "use_karras_sigmas": karras, **more}


SAMPLERS = {
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "ddim": (diffusers.DDIMScheduler, NO_CLIPPING),
    "ddpm": (diffusers.DDPMScheduler, NO_CLIPPING),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler-ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "lms": (diffusers.LMSDiscreteScheduler, {}),
    "dpmpp-2m": dpm_solver("dpmsolver++", False),
    "dpmpp-2m-karras": dpm_solver("dpmsolver++", True),
    "dpmpp-2m-sigma-min": dpm_solver("dpmsolver++", False, final_sigmas_type="sigma_min"),
    "dpmpp-2m-sde": dpm_solver("sde-dpmsolver++", False),
    "dpmpp-2m-sde-karras": dpm_solver("sde-dpmsolver++", True),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "deis": (diffusers.DEISMultistepScheduler, {}),
    "lcm": (diffusers.LCMScheduler, {}),
}
