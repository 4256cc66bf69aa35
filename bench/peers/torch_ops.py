#!/usr/bin/env python3
"""Seconds of PyTorch's convolutions (cuDNN) and fully connected layers on a GPU: forward, backward data, backward weights.

The peer of bench_ops --device cuda, which hands it the layers (--problems FILE) and reads the times (--json FILE,
written anew after each layer). Channels last, cudnn.benchmark, timed by CUDA events; medians.
"""

import argparse
import json
import os
import statistics
import sys

ROUNDS = 5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", required=True, metavar="FILE", help="the layers, as bench_ops writes them")
    parser.add_argument("--json", required=True, metavar="FILE", help="where the times go")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16", "f16"], default="bf16")
    parser.add_argument("--seconds", type=float, default=0.05, help="of each layer and pass (default 0.05)")
    return parser.parse_args()


def passes(torch, problem: dict, dtype):
    """Functions that run a pass, by its name."""
    n, h, w, c = problem["x"]
    k, r, s, _ = problem["w"]

    def random(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.float32).to(dtype)

    bias = random(k) if problem["bias"] else None
    wanted_bias = bias is not None
    if problem["fc"]:
        x, weight, dy = random(n, c), random(k, c), random(n, k)

        def weights():
            return dy.t() @ x, dy.sum(0) if wanted_bias else None

        found = {"fwd": lambda: torch.nn.functional.linear(x, weight, bias), "bwd-weights": weights}
        if not problem["first"]:
            found["bwd-data"] = lambda: dy @ weight
        return found
    stride, pad = problem["stride"], problem["pad"]
    p, q = ((h + 2 * pad[0] - r) // stride[0] + 1, (w + 2 * pad[1] - s) // stride[1] + 1)
    last = torch.channels_last
    x = random(n, c, h, w).to(memory_format=last)
    weight = random(k, c, r, s).to(memory_format=last)
    dy = random(n, k, p, q).to(memory_format=last)

    def backward(mask):
        sizes = [k] if wanted_bias else None
        return torch.ops.aten.convolution_backward(
            dy, x, weight, sizes, stride, pad, [1, 1], False, [0, 0], 1, mask
        )

    found = {
        "fwd": lambda: torch.nn.functional.conv2d(x, weight, bias, stride, pad),
        "bwd-weights": lambda: backward([False, True, wanted_bias]),
    }
    if not problem["first"]:
        found["bwd-data"] = lambda: backward([True, False, False])
    return found


def timed(torch, function, calls: int) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        function()
    end.record()
    torch.cuda.synchronize()
    return 1e-3 * begin.elapsed_time(end) / calls


def measure(torch, function, seconds: float) -> float:
    timed(torch, function, 1)  # cuDNN tries its kernels
    once = max(timed(torch, function, 1), 1e-6)
    calls = max(1, min(1000, int(seconds / ROUNDS / once)))
    return statistics.median(timed(torch, function, calls) for _ in range(ROUNDS))


def main() -> int:
    args = parse()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("torch_ops.py: this PyTorch sees no CUDA device")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
    dtype = {"bf16": torch.bfloat16, "f16": torch.float16}.get(args.precision, torch.float32)
    result = dict(
        name=f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, channels last, {args.precision}",
        rows=[],
    )
    failed = 0
    with open(args.problems) as file:
        problems = json.load(file)
    with torch.no_grad():
        for problem in problems:
            try:
                for name, function in passes(torch, problem, dtype).items():
                    seconds = measure(torch, function, args.seconds)
                    result["rows"].append(
                        dict(net=problem["net"], layer=problem["layer"], **{"pass": name}, seconds=seconds)
                    )
            except RuntimeError as error:  # no memory for this one, say
                first = str(error).splitlines()[0]
                print(f"torch_ops.py: {problem['net']} {problem['layer']}: {first}", file=sys.stderr)
                failed += 1
            with open(args.json + ".new", "w") as file:
                json.dump(result, file)
            os.replace(args.json + ".new", args.json)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
