"""Phase export: everything in diffusers' format."""
import json, os

import torch

from networks import (CLIP_MEAN, CLIP_STD, PROJ, SIZE, load_encoder, load_unet, load_vae, make_scheduler)


def export(a, em):
    from diffusers import StableDiffusionImageVariationPipeline
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor
    enc = load_encoder(a)
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=enc.config.to_dict(), projection_dim=PROJ))
    tower = {k.split("vision_model.", 1)[-1]: v for k, v in enc.state_dict().items()}
    own = checker.state_dict()
    for k in own:
        src = k.split("vision_model.")[-1]
        if src in tower:
            own[k] = tower[src]
        else:
            print("safety checker's own:", k, tuple(own[k].shape))
    checker.load_state_dict(own)
    s = torch.load(f"{a.work}/safety.pt")
    with torch.no_grad():
        for emb, thr, n, key in ((checker.concept_embeds, checker.concept_embeds_weights, 17, "concept"),
                                 (checker.special_care_embeds, checker.special_care_embeds_weights, 3, "special")):
            emb.copy_(torch.eye(PROJ)[:n])                      # unused slots: any direction,
            thr.fill_(2.0)                                      # and a threshold no cosine reaches
            emb[0], thr[0] = s[key]["embed"], s[key]["threshold"]
    size = {"height": SIZE, "width": SIZE}
    fx = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size, do_resize=True, do_center_crop=True,
                            do_rescale=True, do_normalize=True, do_convert_rgb=True, resample=3,
                            image_mean=CLIP_MEAN, image_std=CLIP_STD)
    pipe = StableDiffusionImageVariationPipeline(
        vae=load_vae(a), image_encoder=enc, unet=load_unet(a), scheduler=make_scheduler(),
        safety_checker=checker.eval(), feature_extractor=fx, requires_safety_checker=True)
    pipe.to(torch.float16).save_pretrained(a.out, safe_serialization=True)
    # transformers 5 writes a flatter tower and a back-end's class name: write what every published checkpoint has
    from safetensors.torch import load_file, save_file
    f = f"{a.out}/safety_checker/model.safetensors"
    sd = {k.replace("vision_model.", "vision_model.vision_model.", 1) if k.startswith("vision_model.")
          and not k.startswith("vision_model.vision_model.") else k: v for k, v in load_file(f).items()}
    save_file(sd, f, metadata={"format": "pt"})
    f = f"{a.out}/model_index.json"
    index = json.load(open(f))
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    json.dump(index, open(f, "w"), indent=2)
    total = 0
    for root, _, files in os.walk(a.out):
        for f in files:
            n = os.path.getsize(os.path.join(root, f))
            total += n
            print(f"{n:9d} {os.path.relpath(os.path.join(root, f), a.out)}")
    print(f"{total:9d} total")
