"""What each verb takes: the parsers, and the texts of ``--help``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from actlab._version import __version__
from actlab.cli import comparing, completion, ledgers
from actlab.cli import verbs as run
from actlab.cli.verbs import Verb
from actlab.errors import UsageError

_ABOUT = "Prove an activation function, train with it, and find out whether another is really better."
_FIGURES = "also write figures, as PNG and SVG, into DIR/figures"
_EXAMPLES = {
    "list": ["actlab list"],
    "show": [
        "actlab show mish",
        'actlab show "leaky_relu(negative_slope=0.2)" --out out/pictures',
        'actlab show "formula:x*tanh(softplus(x))"',
    ],
    "check": [
        "actlab check mish torch.nn:GELU my_layers.py:MyActivation --skip compile",
        'actlab check "torch.nn:ELU(alpha=0.5)" --only value,kinks',
    ],
    "time": [
        "actlab time mish gelu",
        'actlab time mish "formula:x*tanh(softplus(x))" --fused',
    ],
    "train": [
        "actlab train --activation tanh",
        'actlab train --data mnist --data-dir ~/data --activation "elu(alpha=0.5)"',
        "actlab train --data houses.csv --target price --regression",
    ],
    "compare": [
        "actlab compare relu tanh leaky_relu --folds 3 --epochs 25 --seed 0",
        "actlab compare relu mish --until-decided --budget 20m",
        'actlab compare relu "formula:x*sigmoid(beta*x) with beta=1.5"',
        "actlab compare relu elu --tune lr=0.003,0.01,0.03 --module my_nets.py:Net",
        "actlab compare relu tanh --data digits --data a.npz --data b.npz",
        "actlab compare relu tanh --data measurements.csv --target species",
    ],
    "report": ["actlab report out/compare --figures", "actlab report out/compare --out page.html"],
    "fleet": ["actlab fleet calibrate", "actlab fleet calibrate --set by_hand=false"],
    "completion": [
        "mkdir -p ~/.local/share/bash-completion/completions",
        "actlab completion bash > ~/.local/share/bash-completion/completions/actlab",
        "actlab completion zsh > _actlab  # into a folder of $fpath",
    ],
    "ledger": ["actlab ledger show out/compare", "actlab ledger merge all.sqlite out/compare"],
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, []):  # an option that does nothing when left out
            return action.help
        return super()._get_help_string(action)


def parser() -> _Parser:
    """Return the parser of the whole command line."""
    every = _examples(*(examples[0] for examples in _EXAMPLES.values()))
    top = _Parser("actlab", description=_ABOUT, epilog=every, formatter_class=_Help, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"actlab {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for add in (
        _add_list,
        _add_show,
        _add_check,
        _add_time,
        _add_train,
        _add_compare,
        _add_report,
        _add_fleet,
        _add_ledger,
        _add_completion,
    ):
        add(verbs)
    verbs.choices["completion"].set_defaults(top=top)
    return top


def _examples(*examples: str) -> str:
    return "\n  ".join(["examples:", *examples])


def _verb(verbs: Any, name: str, about: str, verb: Verb, example: str = "") -> _Parser:
    """Add a verb; ``example`` names the one whose examples it has, if not its own."""
    epilog = _examples(*_EXAMPLES[example or name])
    parser: _Parser = verbs.add_parser(
        name, help=about, description=about, epilog=epilog, formatter_class=_Help, allow_abbrev=False
    )
    parser.set_defaults(run=verb, parser=parser)
    return parser


def _add_list(verbs: Any) -> None:
    parser = _verb(verbs, "list", "list every activation of the catalogue", run.listing)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_show(verbs: Any) -> None:
    parser = _verb(verbs, "show", "show what is known about one activation", run.show)
    add = parser.add_argument
    spec = 'a name, formula:TEXT, or a definition as file.py:name; with arguments: "elu(alpha=0.5)"'
    add("name", metavar="NAME", help=spec)
    add("--out", type=Path, metavar="DIR", help="also write a picture, NAME.png, into this folder")
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_check(verbs: Any) -> None:
    parser = _verb(verbs, "check", "prove an activation, and name the input that breaks it", run.check)
    add = parser.add_argument
    spec = 'a name, formula:TEXT, package.module:Name or file.py:name; with arguments: "elu(alpha=0.5)"'
    add("targets", nargs="+", metavar="TARGET", help=spec)
    add("--reference", metavar="REF", help="what values must be: a formula in x, a name, package.module:name")
    add("--dtypes", metavar="D,...", help="dtypes to compare with float64: float32,float16,bfloat16")
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--only", action="append", metavar="ROW,...", help="run these rows alone, such as kinks,value")
    add("--skip", action="append", metavar="ROW,...", help="do not run these rows, such as compile,export")
    add("--junit", type=Path, metavar="FILE", help="also write the rows as JUnit XML")
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_time(verbs: Any) -> None:
    parser = _verb(verbs, "time", "measure activations beside torch.nn's own", run.timed)
    add = parser.add_argument
    spec = 'as for check: a name, package.module:Name, file.py:name or "formula:x*tanh(x)"'
    add("targets", nargs="+", metavar="TARGET", help=spec)
    add("--shape", default="1000,1000", metavar="N,...", help="of the input")
    add("--dtype", default="float32", metavar="D", help="float32, float64, float16 or bfloat16")
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--fused", action="store_true", help="as compiled kernels; the first use compiles for seconds")
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_train(verbs: Any) -> None:
    parser = _verb(verbs, "train", "train the notebook's net and say how it went", run.train)
    parser.add_argument(
        "--activation", default="relu", metavar="SPEC", help="activation of the hidden layers"
    )
    parser.add_argument(
        "--num-units", type=int, default=128, metavar="N", help="width of the first hidden layer"
    )
    about = "a dataset's name, or an .npz or .csv file"
    parser.add_argument("--data", default="digits", metavar="NAME|FILE", help=about)
    _add_common(parser, out="out/train")


def _add_compare(verbs: Any) -> None:
    parser = _verb(
        verbs, "compare", "train a net with each activation; say which is better", comparing.compare
    )
    add = parser.add_argument
    add("activations", nargs="+", metavar="NAME", help='an activation, such as relu or "formula:x*tanh(x)"')
    add("--folds", type=int, default=3, metavar="N", help="parts the rows are split into")
    add("--seeds", type=int, default=1, metavar="N", help="how many times all folds are trained")
    add("--until-decided", action="store_true", help="add seeds for what is undecided, up to 32")
    add("--budget", metavar="N|Nm", help="what that may take: N runs, or N minutes as 20m")
    tune = "train each run with each value, and score the best by validation: lr=0.003,0.01"
    add("--tune", action="append", default=[], metavar="NAME=A,B", help=tune)
    add("--module", metavar="M:NET", help="your net, package.module:Net or file.py:Net(width=64)")
    add("--replace", metavar="NAME", help="which of its activations, if it has several kinds: relu")
    add("--scoring", metavar="NAME", help="a scorer of scikit-learn; accuracy, or r2, when left out")
    add("--rope", type=float, metavar="X", help="differences up to X are equivalent; printed when left out")
    add("--jobs", type=int, metavar="N", help="processes that train; as is fastest when left out")
    add("--scheduler", metavar="ADDRESS", help="train on a Dask cluster instead: tcp://HOST:PORT")
    add("--mlflow", metavar="URI", help="log to MLflow too: sqlite:///runs.db or http://HOST:PORT")
    data = "a dataset's name, or an .npz or .csv file, digits when left out; several times for several"
    add("--data", action="append", metavar="NAME|FILE", help=data)
    _add_common(parser, out="out/compare")


def _add_report(verbs: Any) -> None:
    parser = _verb(
        verbs, "report", "write the page of a comparison or a training, report.html", comparing.report
    )
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="DIR",
        help="the folder that actlab compare or train has written, or writes",
    )
    add("--out", type=Path, metavar="FILE", help="the page; report.html in DIR when left out")
    add("--figures", action="store_true", help=_FIGURES)
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_common(parser: _Parser, *, out: str) -> None:
    add = parser.add_argument
    add("--data-dir", metavar="DIR", help="where the dataset's files are; downloaded when left out")
    add("--target", metavar="COLUMN", help="the column of a .csv file to be predicted")
    add("--regression", action="store_true", help="the target is a number to be predicted, not a class")
    axis = "where the images of an .npz file have their channels (default: the axis of length 1, 3 or 4)"
    add("--channels", choices=("first", "last"), help=axis)
    add("--epochs", type=int, default=25, metavar="N", help="passes over the training rows")
    add("--batch-size", type=int, default=128, metavar="N", help="rows in a step")
    add("--lr", type=float, default=0.01, metavar="X", help="learning rate")
    add("--seed", type=int, default=0, metavar="N", help="where the initial weights come from")
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--precision", default="float32", metavar="P", help="float32, or bf16 for products in bfloat16")
    diagnostics = "look into the nets after every epoch, or never; as often as costs little when left out"
    add("--diagnostics", action=argparse.BooleanOptionalAction, help=diagnostics)
    add("--out", type=Path, default=Path(out), metavar="DIR", help="folder for the files that are written")
    add("--figures", action="store_true", help=_FIGURES)
    add("--json", action="store_true", help="print one JSON object instead of text")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--verbose", action="store_true", help="show what happens meanwhile, always")
    loudness.add_argument("--quiet", action="store_true", help="print nothing but errors")


def _add_fleet(verbs: Any) -> None:
    about = "how this machine trains fastest"
    below = _verb(verbs, "fleet", about, run.calibrate).add_subparsers(metavar="WHAT", required=True)
    parser = _verb(
        below, "calibrate", "show it; measure it when that was not done yet", run.calibrate, "fleet"
    )
    add = parser.add_argument
    add("--again", action="store_true", help="measure again, and forget what was set")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="set it yourself: by_hand=false")
    add("--device", default="cpu", metavar="D", help="cpu, cuda or cuda:N")
    add("--json", action="store_true", help="print one JSON object instead of text")


def _add_completion(verbs: Any) -> None:
    parser = _verb(verbs, "completion", "print what makes a shell complete actlab", completion.completion)
    parser.add_argument("shell", choices=completion.SHELLS, help="the shell")


def _add_ledger(verbs: Any) -> None:
    about = "look after the file in which a comparison keeps every finished run"
    below = _verb(verbs, "ledger", about, ledgers.show).add_subparsers(metavar="WHAT", required=True)
    whats = {
        "show": ("show what it holds", ledgers.show),
        "verify": ("look for everything that can be wrong with it", ledgers.verify),
        "export": ("write it as CSV and JSON", ledgers.export),
        "merge": ("take over the runs of others, each run once", ledgers.merge),
    }
    for what, (about, verb) in whats.items():
        parser = _verb(below, what, about, verb, "ledger")
        parser.add_argument("ledger", type=Path, metavar="LEDGER", help="the file, or a comparison's folder")
        if what == "merge":
            parser.add_argument("others", type=Path, nargs="+", metavar="OTHER", help="only read")
        if what == "export":
            where = "folder for the files that are written"
            parser.add_argument("--out", type=Path, default=Path("out/ledger"), metavar="DIR", help=where)
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
