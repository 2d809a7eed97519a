"""What every training loop does: its rate, its step, its log."""
import math, time

import torch


def bf16():
    return torch.autocast("cpu", torch.bfloat16)


def lr_at(step, steps, peak, warm=100, floor=0.01):
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))))


def set_rate(opt, lr):
    for group in opt.param_groups:
        group["lr"] = lr


def descend(opt, loss, params):
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    opt.step()


class Log:
    def __init__(self, name):
        self.name, self.t0, self.acc, self.n = name, time.time(), None, 0

    def __call__(self, step, steps, every=50, **v):
        self.acc = v if self.acc is None else {k: self.acc[k] + v[k] for k in v}
        self.n += 1
        if (step + 1) % every == 0 or step + 1 == steps:
            print(f"{self.name} {step + 1}/{steps} {time.time() - self.t0:.0f}s "
                  + " ".join(f"{k} {self.acc[k] / self.n:.4f}" for k in v), flush=True)
            self.acc, self.n = None, 0
