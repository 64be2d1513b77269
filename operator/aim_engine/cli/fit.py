"""`aim-engine fit`: does a model fit GPUs, and how was that computed?"""

from __future__ import annotations

import argparse
import re

from aim_engine.cli.output import add_output

EXAMPLES = """\
examples:
  aim-engine fit --model Qwen/Qwen3-32B
  aim-engine fit --model Qwen/Qwen3-32B --gpu MI300X --count 2 --precision fp8 --context 32768
  aim-engine fit --model meta-llama/Llama-2-70b-chat-hf --gpu MI300X --partition cpx_nps4 --flag kv-cache-dtype=fp8
  aim-engine fit --model meta-llama/Llama-3.1-405B-Instruct --gpu MI355X --count 8 -o json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument(
        "--model", required=True, metavar="ID", help="model or checkpoint, for example Qwen/Qwen3-32B"
    )
    parser.add_argument(
        "--gpu", metavar="MODEL", help="GPU model; without it, the fewest GPUs of every model are shown"
    )
    parser.add_argument(
        "--count", type=_positive, metavar="N", help="GPUs (default: the fewest that hold it); needs --gpu"
    )
    parser.add_argument("--precision", metavar="P", help="format of the weights (default: the checkpoint's)")
    parser.add_argument(
        "--context", type=_positive, metavar="N", help="longest prompt and answer together, in tokens"
    )
    parser.add_argument(
        "--partition", metavar="MODE", help="partition mode of the GPUs, for example cpx_nps4"
    )
    parser.add_argument(
        "--flag",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a flag of vLLM, for example kv-cache-dtype=fp8",
    )
    parser.add_argument(
        "--hub", action="store_true", help="ask the Hub about a model that the catalogue does not know"
    )
    add_output(parser, wide=False)


def _positive(text: str) -> int:
    if not re.fullmatch(r"\d{1,12}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Fit; 0 when it fits or nobody knows, 3 when it does not."""
    from aim_engine.cli.fit_answer import answer

    return answer(arguments)
