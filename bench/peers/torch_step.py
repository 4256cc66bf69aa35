#!/usr/bin/env python3
"""Images per second of whole PyTorch training steps: forward, loss, backward, SGD with momentum 0.9.

The peer of bench_step: same nets, batches and step; data resident in memory; float32 on the CPU, bf16
autocast on CUDA. Every variant (memory format, with or without torch.jit.trace or torch.compile) is timed in
turn, --repeats times, and the variant with the fastest repeat is marked: other load on the machine only ever
slows a repeat down.

For the CPU's best figures install tcmalloc (Debian: libgoogle-perftools4); it is preloaded when found. With
Debian's python3-torch also install libopenblas0-openmp: without it matrix products run in the reference BLAS.
"""

import argparse
import glob
import json
import os
import platform
import statistics
import sys
import time
import warnings
from typing import Callable, Dict, List

TABLE = {  # net: (H, W, C), classes, batches
    "cifar_cnn": ((32, 32, 3), 10, [32, 128]),
    "mnist_cnn": ((28, 28, 1), 10, [64]),
    "mlp": ((28, 28, 1), 10, [64, 1]),
    "vgg16": ((32, 32, 3), 10, [128]),
    "resnet18": ((32, 32, 3), 10, [64]),
    "alexnet": ((224, 224, 3), 1000, [32]),
    # bench_step's on CUDA: the net, and after the @ which of its inputs
    "vgg16@224": ((224, 224, 3), 1000, [256]),
    "alexnet@224": ((224, 224, 3), 1000, [256]),
    "resnet18@224": ((224, 224, 3), 1000, [256]),
    "vgg16@32": ((32, 32, 3), 10, [256]),
    "cifar_cnn@32": ((32, 32, 3), 10, [256]),
}
CPU_NETS = [net for net in TABLE if "@" not in net]
RESIDENT_BATCHES = 4


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", nargs="+", choices=list(TABLE), default=CPU_NETS, help="default: those without @")
    parser.add_argument(
        "--batch", type=int, nargs="+", help="images a step (default: the net's batches in the table)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads, each pinned to a core (default 1)")
    parser.add_argument("--seconds", type=float, default=2, help="length of one repeat (default 2)")
    parser.add_argument("--repeats", type=int, default=3, help="timings of every variant (default 3)")
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="LAYOUT[+MODE]",
        help="nchw or channels_last, then nothing, +jit or +compile (default: all that there are)",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--precision", choices=["f32", "tf32", "bf16"], help="default: f32 on cpu, bf16 (autocast) on cuda"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the rows here")
    return parser.parse_args()


def cpu_field(name: str) -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""


def set_environment(threads: int) -> None:
    """Starts this process again when a setting that is read at its start is not the best one."""
    env = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)
    if "avx512f" in cpu_field("flags").split():
        # OpenBLAS takes processors younger than itself for a Prescott; PyTorch 1.13 keeps to AVX2 by itself.
        env["OPENBLAS_CORETYPE"] = "SkylakeX"
        env["ATEN_CPU_CAPABILITY"] = "avx512"
    env.update(OMP_NUM_THREADS=str(threads), OMP_PROC_BIND="true", OMP_PLACES="cores")
    tcmalloc = sorted(glob.glob("/usr/lib*/libtcmalloc.so*") + glob.glob("/usr/lib*/*/libtcmalloc.so*"))
    if tcmalloc and "tcmalloc" not in env.get("LD_PRELOAD", ""):
        env["LD_PRELOAD"] = " ".join([tcmalloc[0], env.get("LD_PRELOAD", "")]).strip()
    if env != os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], env)


def default_variants(torch, device: str) -> List[str]:
    if device == "cuda":
        return ["channels_last", "channels_last+compile"]
    modes = ["", "+jit"] + (["+compile"] if hasattr(torch, "compile") else [])
    return [layout + mode for mode in modes for layout in ("nchw", "channels_last")]


def make_step(torch, net: str, batch: int, variant: str, device: str, precision: str) -> Callable:
    """A function that runs one training step and returns its loss."""
    from torch_nets import NETS

    shape, classes, _ = TABLE[net]
    layout, _, mode = variant.partition("+")
    memory_format = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}[layout]
    torch.manual_seed(1)
    h, w, c = shape
    images = torch.randn(RESIDENT_BATCHES, batch, c, h, w).to(device)
    batches = [x.contiguous(memory_format=memory_format) for x in images]
    labels = list(torch.randint(classes, (RESIDENT_BATCHES, batch)).to(device))
    model = NETS[net.partition("@")[0]](shape, classes).train().to(device).to(memory_format=memory_format)

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x, y):
            return torch.nn.functional.cross_entropy(self.model(x), y)

    loss_of = Loss()
    if mode == "jit":
        warnings.filterwarnings("ignore", category=FutureWarning)  # jit.trace is deprecated
        loss_of = torch.jit.trace(loss_of, (batches[0], labels[0]), check_trace=False)
    elif mode == "compile":
        loss_of = torch.compile(loss_of, mode="reduce-overhead" if device == "cuda" else None)
    elif mode:
        raise SystemExit(f"torch_step.py: no such variant: {variant}")
    settings = dict(lr=0.001, momentum=0.9)
    try:
        optimizer = torch.optim.SGD(model.parameters(), fused=True, **settings)
    except (TypeError, RuntimeError):  # before PyTorch 2.4
        optimizer = torch.optim.SGD(model.parameters(), **settings)
    step_number = 0

    def step():
        nonlocal step_number
        i = step_number % RESIDENT_BATCHES
        step_number += 1
        optimizer.zero_grad(set_to_none=True)
        if precision == "bf16":
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = loss_of(batches[i], labels[i])
        else:
            loss = loss_of(batches[i], labels[i])
        loss.backward()
        optimizer.step()
        return loss

    return step


def timed(step: Callable, steps: int, synchronize: Callable) -> tuple:
    """Wall seconds, CPU seconds, the last loss."""
    synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        loss = step()
    synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu, loss.item()


def measure(torch, net: str, batch: int, args: argparse.Namespace, variants: List[str]) -> List[Dict]:
    synchronize = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    runs = []
    if net == "mlp":  # has no image to lay out
        variants = [v for v in variants if not v.startswith("channels_last")] or ["nchw"]
    for variant in variants:
        step = make_step(torch, net, batch, variant, args.device, args.precision)
        for _ in range(3):  # allocations, tracing, compilation
            step()
        steps = 1
        while True:
            seconds, _, _ = timed(step, steps, synchronize)
            if seconds >= 0.1 * args.seconds:
                break
            steps *= 4
        runs.append((variant, step, max(1, round(steps * args.seconds / seconds)), []))
    for _ in range(args.repeats):
        for variant, step, steps, times in runs:
            times.append(timed(step, steps, synchronize))
    rows = []
    for variant, _, steps, times in runs:
        rates = [steps * batch / wall for wall, _, _ in times]
        row = dict(
            net=net,
            batch=batch,
            threads=args.threads,
            device=args.device,
            precision=args.precision,
            variant=variant,
            images_per_second=statistics.median(rates),
            images_per_second_max=max(rates),
            wrong=sum(loss != loss or abs(loss) == float("inf") for _, _, loss in times),
            torch_version=torch.__version__,
        )
        if (
            args.device == "cpu" and args.threads == 1
        ):  # waiting threads spin, so with more the CPU time says little
            row["images_per_cpu_second"] = statistics.median(steps * batch / cpu for _, cpu, _ in times)
        rows.append(row)
    best = max(rows, key=lambda row: row["images_per_second_max"])
    for row in rows:
        row["best"] = row is best
    return rows


def main() -> int:
    args = parse()
    if args.device == "cpu":
        set_environment(args.threads)
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < args.threads:
            raise SystemExit(
                f"torch_step.py: --threads {args.threads}, but this process may use {len(cores)} cores"
            )
        os.sched_setaffinity(0, cores[: args.threads])
    args.precision = args.precision or ("bf16" if args.device == "cuda" else "f32")
    import torch

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("torch_step.py: this PyTorch sees no CUDA device")
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision != "f32"
    variants = args.variants or default_variants(torch, args.device)

    cpu = cpu_field("model name") or platform.processor()
    device = torch.cuda.get_device_name() if args.device == "cuda" else cpu
    names = (
        ["LD_PRELOAD", "OPENBLAS_CORETYPE", "ATEN_CPU_CAPABILITY", "OMP_PROC_BIND"]
        if args.device == "cpu"
        else []
    )
    settings = {name: os.environ.get(name, "") for name in names}
    print(f"# torch_step: PyTorch {torch.__version__}, Python {platform.python_version()}, {device}")
    print(f"# {args.threads} threads, {args.precision}, {args.repeats} x {args.seconds:g} s, flush denormals")
    for name, value in settings.items():
        print(f"# {name}={value}")
    print(
        "# {:<12}{:>6}{:>8}  {:<24}{:>11}{:>11}{:>14}{:>8}  best".format(
            "net", "batch", "threads", "variant", "median", "max", "cpu", "#wrong"
        )
    )
    print(
        "# {:<12}{:>6}{:>8}  {:<24}{:>11}{:>11}{:>14}{:>8}".format(
            "", "images", "", "", "images/s", "images/s", "images/cpu-s", "repeats"
        )
    )
    rows: List[Dict] = []
    for net in args.net:
        for batch in args.batch or TABLE[net][2]:
            for row in measure(torch, net, batch, args, variants):
                rows.append(row)
                cpu_rate = f"{row['images_per_cpu_second']:.1f}" if "images_per_cpu_second" in row else "-"
                print(
                    f"  {net:<12}{batch:>6}{args.threads:>8}  {row['variant']:<24}"
                    f"{row['images_per_second']:>11.1f}{row['images_per_second_max']:>11.1f}{cpu_rate:>14}"
                    f"{row['wrong']:>8}"
                    f"  {'*' if row['best'] else ''}".rstrip(),
                    flush=True,
                )
    wrong = sum(row["wrong"] for row in rows)
    print(f"# {len(rows)} rows, {wrong} wrong (loss not finite)")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(
                dict(
                    device=device,
                    python=platform.python_version(),
                    repeats=args.repeats,
                    seconds=args.seconds,
                    settings=settings,
                    rows=rows,
                ),
                file,
                indent=1,
            )
            file.write("\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
