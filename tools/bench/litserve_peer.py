#!/usr/bin/env python3
"""diffusers behind LitServe, as service.py's peer: litserve_peer.py MODEL PORT MAX_BATCH_SIZE BATCH_TIMEOUT THREADS

What is alike in a batch goes through diffusers' pipeline together: its steps and guidance are one for the whole call.
"""
import base64
import collections
import io
import sys

import diffusers
import litserve
import PIL.Image
import torch


class Variations(litserve.LitAPI):
    def __init__(self, model, threads, **batching):
        super().__init__(**batching)
        self.model, self.threads = model, threads

    def setup(self, device):
        torch.set_num_threads(self.threads)
        self.pipeline = diffusers.StableDiffusionImageVariationPipeline.from_pretrained(
            self.model, torch_dtype=torch.float32).to(device)
        self.pipeline.unet.to(memory_format=torch.channels_last)
        self.pipeline.vae.to(memory_format=torch.channels_last)
        self.pipeline.set_progress_bar_config(disable=True)

    def decode_request(self, request):
        picture = PIL.Image.open(io.BytesIO(base64.b64decode(request["picture"]))).convert("RGB")
        return request | {"picture": picture}

    def batch(self, inputs):
        return list(inputs)

    def predict(self, batch):
        requests = batch if isinstance(batch, list) else [batch]
        alike = collections.defaultdict(list)
        for number, request in enumerate(requests):
            alike[request["steps"], request["guidance"]].append(number)
        answers = [None] * len(requests)
        for (steps, guidance), numbers in alike.items():
            self.run([requests[number] for number in numbers], steps, guidance, numbers, answers)
        return answers if isinstance(batch, list) else answers[0]

    def run(self, requests, steps, guidance, numbers, answers):
        sources = [request["picture"] for request in requests for _ in range(request["count"])]
        generators = [torch.Generator().manual_seed(request["seed"] + i)
                      for request in requests for i in range(request["count"])]
        pictures = iter(self.pipeline(sources, num_inference_steps=steps, guidance_scale=guidance,
                                      generator=generators).images)
        for number, request in zip(numbers, requests):
            answers[number] = [next(pictures) for _ in range(request["count"])]

    def unbatch(self, output):
        return output

    def encode_response(self, pictures):
        def png(picture):
            file = io.BytesIO()
            picture.save(file, "PNG")
            return base64.b64encode(file.getvalue()).decode()
        return {"pictures": [png(picture) for picture in pictures]}


def main():
    model, port, size, timeout, threads = sys.argv[1:]
    api = Variations(model, int(threads), max_batch_size=int(size), batch_timeout=float(timeout))
    litserve.LitServer(api, accelerator="cpu", timeout=600).run(
        host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
