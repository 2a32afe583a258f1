"""``actlab time``: the speed of activations."""

from __future__ import annotations

import argparse

from actlab.cli.options import ACTIVATION, DEVICE, JSON, MODEL, Parser, load_model
from actlab.cli.output import SUCCESS, print_json
from actlab.errors import UsageError

SUMMARY = "measure time and memory, compared with torch.nn"
EXAMPLES = (
    "actlab time mish gelu",
    'actlab time mish "formula:x*tanh(softplus(x))" --fused',
    "actlab time mish gelu --model torchvision.models:resnet18 --shape 8,3,64,64",
)


def add_options(parser: Parser) -> None:
    """Add the options to the command's parser."""
    parser.add_argument("targets", nargs="+", metavar="TARGET", help=ACTIVATION)
    add = parser.add_argument_group("measurement").add_argument
    model = f"measure training steps of a model, as given and with each TARGET swapped in: {MODEL}"
    add("--model", metavar="MODEL", help=model)
    add("--shape", default="1000,1000", metavar="N,...", help="shape of the input")
    add("--dtype", default="float32", metavar="D", help="float32, float64, float16 or bfloat16")
    add("--device", **DEVICE)
    add("--fused", action="store_true", help="also measure compiled kernels; compiling takes seconds")
    parser.add_argument_group("output").add_argument("--json", **JSON)


def run(arguments: argparse.Namespace) -> int:
    """Measure activations."""
    import torch

    from actlab.errors import raise_problems
    from actlab.timing import measure
    from actlab.training.settings import find_device_problem

    raise_problems([find_device_problem(arguments.device)])
    try:
        shape = [int(size) for size in arguments.shape.split(",")]
    except ValueError:
        raise UsageError(f"--shape must be sizes such as 1000,1000, got {arguments.shape!r}") from None
    dtype = getattr(torch, arguments.dtype, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        dtypes = "float32, float64, float16 or bfloat16"
        raise UsageError(f"--dtype must be {dtypes}, got {arguments.dtype!r}")
    timings = measure(
        arguments.targets,
        model=load_model(arguments.model) if arguments.model else None,
        shape=shape,
        dtype=dtype,
        device=arguments.device,
        fuse=arguments.fused,
    )
    if arguments.json:
        print_json(arguments, timings.to_json())
        return SUCCESS
    about = timings.about
    elements = f"training steps of {arguments.model}, " * bool(arguments.model)
    elements += f"{' x '.join(map(str, shape))} elements"
    threads = f"{about['threads']} thread{'s' * (about['threads'] > 1)}"
    print(f"{elements}, {about['dtype']}, {about['device']}, {threads}\n\n{timings}")
    return SUCCESS
