"""The flags and examples of every command. Loads no command, so that help and completion are there at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from pathlib import Path

from aim_engine import CONFIG_VARIABLE
from aim_engine.cli.output import add_output

Parser = argparse.ArgumentParser
OPERATOR_NAMESPACE = "aim-engine"
API_KEY_VARIABLE = "AIM_ENGINE_API_KEY"
_NAMESPACE = "namespace (default: that of the kubeconfig's context)"
RECIPE_ACTIONS = {
    "list": "list recipes",
    "show": "print recipes",
    "validate": "check recipe files",
    "import": "turn recipes of another project into AIMRecipes",
}


HOOK_STEPS = {
    "select": "choose the recipe of a release, say how, and record it",
    "recipes": "apply the catalogue of this image",
    "crds": "apply the CRDs of this image",
    "uninstall": "refuse where AIMDeployments of others would lose their operator",
    "test": "check an installation",
}


def add_arguments(command: str, parser: Parser, words: Collection[str]) -> None:
    """Give a command's parser its flags and examples; `words` is what was typed, for flags that cost time to know."""
    if command == "recipes":
        _recipes(parser, words)
    elif command in _FLAGS:
        _FLAGS[command](parser)
    else:  # its flags stand with it
        module = import_module(f"aim_engine.cli.{command}")
        module.add_arguments(parser)
        parser.epilog = module.EXAMPLES


def _operator(parser: Parser) -> None:
    default = os.environ.get(CONFIG_VARIABLE)
    parser.add_argument(
        "--config", type=Path, default=Path(default) if default else None, metavar="FILE",
        help=f"configuration file (default: ${CONFIG_VARIABLE}, else built-in defaults)",
    )  # fmt: skip
    parser.add_argument(
        "--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"],
        help="least severe messages to log (default: INFO)",
    )  # fmt: skip
    command = parser.prog.rsplit(" ", 1)[-1]
    parser.epilog = f"""\
examples:
  aim-engine {command} --config config.yaml"""


def _select(parser: Parser) -> None:
    parser.add_argument("model", help="model, for example Qwen/Qwen3-32B")
    parser.add_argument("--gpu", metavar="MODEL", help="GPU model, for example MI300X")
    parser.add_argument("--gpu-count", type=int, metavar="N", help="GPUs per replica")
    parser.add_argument("--precision", metavar="P", help="bf16, fp16, fp8, int8, int4 or mxfp4")
    parser.add_argument("--backend", metavar="B", help="inference engine")
    parser.add_argument("--objective", metavar="O", help="throughput or latency")
    parser.add_argument("--replicas", type=int, metavar="N", help="replicas to find room for")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="sequences that one replica processes at the same time"
    )
    parser.add_argument("--input-tokens", type=int, metavar="N", help="longest prompt")
    parser.add_argument("--output-tokens", type=int, metavar="N", help="longest answer")
    _cluster(parser)
    add_output(parser)
    parser.epilog = """\
examples:
  aim-engine select Qwen/Qwen3-32B
  aim-engine select Qwen/Qwen3-32B --cluster snapshot.yaml -o json
  aim-engine select meta-llama/Llama-2-70b-chat-hf --gpu-count 8 --precision fp16 --nodes nodes.yaml"""


def _explain(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", help="name of an AIMDeployment of the cluster")
    parser.add_argument(
        "-f", "--filename", type=Path, metavar="FILE",
        help="AIMDeployments of a file, or of all files of a folder, as if they were applied in the order of their names",
    )  # fmt: skip
    _cluster(parser)
    add_output(parser)
    parser.epilog = """\
examples:
  aim-engine explain qwen -n team-a
  aim-engine explain -f deploy/samples/qwen3-32b.yaml --cluster snapshot.yaml
  aim-engine explain -f apps/ --cluster snapshot.yaml -o json"""


def _render(parser: Parser) -> None:
    _deployment(parser)
    _cluster(parser)
    _manifests(parser)
    parser.epilog = """\
examples:
  aim-engine render qwen -n team-a
  aim-engine render -f deploy/samples/qwen3-32b.yaml --cluster snapshot.yaml"""


def _diff(parser: Parser) -> None:
    _deployment(parser)
    _cluster(parser)
    parser.epilog = """\
examples:
  aim-engine diff -f deploy/samples/qwen3-32b.yaml
  aim-engine diff -f app.yaml --cluster snapshot.yaml"""


def _snapshot(parser: Parser) -> None:
    parser.add_argument("--file", type=Path, metavar="FILE", help="file to write (default: standard output)")
    parser.add_argument(
        "--hub", action="store_true",
        help="ask the Hub about models of which nothing is known, as the operator does",
    )  # fmt: skip
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration of the operator, instead of the cluster's"
    )
    parser.epilog = """\
examples:
  aim-engine snapshot > snapshot.yaml
  aim-engine snapshot --file snapshot.yaml"""


def _status(parser: Parser) -> None:
    parser.add_argument(
        "name", nargs="?", help="name of an AIMDeployment, to show everything that is known of it"
    )
    _cluster(parser, hub=False, namespace=f"{_NAMESPACE}; without a name: all namespaces")
    parser.add_argument(
        "-A",
        "--all-namespaces",
        action="store_true",
        help="of all namespaces, which is the default without -n",
    )
    add_output(parser)
    parser.epilog = """\
examples:
  aim-engine status
  aim-engine status -n team-a -o wide
  aim-engine status qwen -n team-a"""


def _bench(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", help="name of an AIMDeployment of the cluster")
    parser.add_argument("-n", "--namespace", help=_NAMESPACE)
    server = parser.add_argument_group("server", "default: the Service of the AIMDeployment")
    server.add_argument(
        "--url", metavar="URL", help="OpenAI-compatible server to ask, for example http://127.0.0.1:8000/v1"
    )
    server.add_argument(
        "--model", metavar="ID", help="model to ask for (default: the deployment's, or the first served)"
    )
    server.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"file with the key of the server (default: ${API_KEY_VARIABLE})",
    )
    load = parser.add_argument_group("load")
    load.add_argument(
        "--concurrency",
        type=int,
        default=8,
        metavar="N",
        help="requests in flight at the same time (default: 8)",
    )
    load.add_argument(
        "--input-tokens", type=int, default=1024, metavar="N", help="length of the prompts (default: 1024)"
    )
    load.add_argument(
        "--output-tokens", type=int, default=128, metavar="N", help="length of the answers (default: 128)"
    )
    load.add_argument(
        "--duration", type=float, default=60, metavar="SECONDS", help="longest time to measure (default: 60)"
    )
    load.add_argument("--requests", type=int, metavar="N", help="end after so many answers")
    load.add_argument(
        "--warmup",
        type=float,
        default=5,
        metavar="SECONDS",
        help="time under load before the measurement begins (default: 5)",
    )
    load.add_argument(
        "--timeout", type=float, default=60, metavar="SECONDS",
        help="time without a word of the server after which a request has failed (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--save", action="store_true", help="record the result with the AIMRecipe that the deployment runs"
    )
    add_output(parser, wide=False)
    parser.epilog = """\
examples:
  aim-engine bench qwen -n team-a --concurrency 32
  aim-engine bench --url http://127.0.0.1:8000/v1 --duration 30 -o json
  aim-engine bench qwen -n team-a --url http://127.0.0.1:8000/v1 --save"""


def _doctor(parser: Parser) -> None:
    parser.add_argument(
        "--operator-namespace", default=OPERATOR_NAMESPACE, metavar="NAMESPACE",
        help=f"namespace of the operator (default: {OPERATOR_NAMESPACE})",
    )  # fmt: skip
    parser.add_argument(
        "--service-account", default="aim-engine-operator", metavar="NAME",
        help="ServiceAccount of the operator (default: aim-engine-operator)",
    )  # fmt: skip
    add_output(parser, wide=False)
    parser.epilog = """\
examples:
  aim-engine doctor
  aim-engine doctor --operator-namespace aim-engine --service-account aim-engine-operator"""


def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=["bash", "zsh", "fish"], help="shell that will read the script")
    parser.epilog = """\
examples:
  aim-engine completion bash > /etc/bash_completion.d/aim-engine
  aim-engine completion zsh > "${fpath[1]}/_aim-engine"
  aim-engine completion fish > ~/.config/fish/completions/aim-engine.fish"""


def _owner_and_name(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not slash or not namespace or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAMESPACE/NAME")
    return namespace, name


def _hook(parser: Parser) -> None:
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    each = {name: steps.add_parser(name, help=about, description=about) for name, about in HOOK_STEPS.items()}
    select = each["select"]
    select.add_argument(
        "--request", type=Path, required=True, metavar="FILE", help="AIMDeployment of the release"
    )
    select.add_argument(
        "--record", required=True, metavar="NAME", help="ConfigMap that the decision is written to"
    )
    select.add_argument(
        "--keep-recorded",
        action="store_true",
        help="keep the decision that is recorded, if it can serve here",
    )
    _operator(select)
    select.set_defaults(cluster=None, nodes=None, recipes=None, namespace=None, hub=True, shipped=False)
    for name in ("uninstall", "test"):
        each[name].add_argument(
            "--release",
            type=_owner_and_name,
            required=True,
            metavar="NAMESPACE/NAME",
            help="release and its namespace",
        )
    each["uninstall"].add_argument(
        "--operator",
        type=_owner_and_name,
        required=True,
        metavar="NAMESPACE/NAME",
        help="Deployment of the operator",
    )
    each["uninstall"].add_argument(
        "--served", action="append", default=[], metavar="NAMESPACE",
        help="namespace that the operator serves; repeatable (default: all)",
    )  # fmt: skip
    each["test"].add_argument("--metrics", metavar="URL", help="metrics of the operator")
    each["test"].add_argument(
        "--metrics-ca", type=Path, metavar="FILE", help="certificate authority of an https URL"
    )
    each["test"].add_argument(
        "--metrics-guarded", action="store_true", help="the metrics ask for a bearer token"
    )
    each["test"].add_argument("--validator", action="store_true", help="a validator is installed")
    parser.epilog = """\
examples:
  aim-engine hook recipes
  aim-engine hook select --request request.yaml --record aim-engine-recipe-config"""


_FLAGS: Mapping[str, Callable[[Parser], None]] = {
    "operator": _operator,
    "webhook": _operator,
    "select": _select,
    "explain": _explain,
    "render": _render,
    "diff": _diff,
    "snapshot": _snapshot,
    "status": _status,
    "bench": _bench,
    "doctor": _doctor,
    "completion": _completion,
    "hook": _hook,
}


def _recipes(parser: Parser, words: Collection[str]) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    each = {
        name: actions.add_parser(name, help=about, description=about)
        for name, about in RECIPE_ACTIONS.items()
    }
    _recipe_source(each["list"])
    each["list"].add_argument("--model", metavar="ID", help="only of this model")
    each["list"].add_argument("--gpu", metavar="MODEL", help="only for this GPU model")
    each["list"].add_argument("--precision", metavar="P", help="only in this format")
    add_output(each["list"])
    each["show"].add_argument("names", nargs="+", metavar="NAME", help="name of a recipe")
    _recipe_source(each["show"])
    _manifests(each["show"])
    each["validate"].add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="file of AIMRecipes or ConfigMap recipes, or folder of them",
    )
    if "import" in words:
        import_module("aim_engine.cli.recipes_import").add_arguments(each["import"])
    parser.epilog = """\
examples:
  aim-engine recipes list --model Qwen/Qwen3-32B --gpu MI300X
  aim-engine recipes show qwen3-32b-mi300x-1x-fp8
  aim-engine recipes validate my-recipes/
  aim-engine recipes import aim-build ../aim-build --output my-recipes"""


def _recipe_source(parser: Parser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--recipes", type=Path, metavar="DIR", help="folder of recipe files (default: the shipped ones)"
    )
    source.add_argument(
        "--cluster", type=Path, metavar="FILE", help="snapshot written by `aim-engine snapshot`"
    )


def _deployment(parser: Parser) -> None:
    """The flags that say which one deployment is meant."""
    parser.add_argument("name", nargs="?", help="name of an AIMDeployment of the cluster")
    parser.add_argument(
        "-f", "--filename", type=Path, metavar="FILE",
        help="file with one AIMDeployment; recipes, namespaces and ConfigMaps beside it take part as if applied too",
    )  # fmt: skip


def _cluster(
    parser: Parser, *, hub: bool = True, namespace: str = f"{_NAMESPACE}; with a file: default"
) -> None:
    """The flags that say which cluster is meant."""
    group = parser.add_argument_group("cluster", "default: the cluster of the kubeconfig")
    group.add_argument(
        "--cluster", type=Path, metavar="FILE", help="snapshot written by `aim-engine snapshot`"
    )
    group.add_argument(
        "--nodes", type=Path, metavar="FILE", help="nodes alone, from kubectl get nodes -o yaml"
    )
    group.add_argument(
        "--recipes", type=Path, metavar="DIR",
        help="AIMRecipe files to use instead of the cluster's; the shipped ones are used when there are none",
    )  # fmt: skip
    group.add_argument("--config", type=Path, metavar="FILE", help="configuration of the operator")
    group.add_argument("-n", "--namespace", help=namespace)
    if hub:
        group.add_argument(
            "--hub", action="store_true",
            help="ask the Hub about models of which nothing is known, as the operator does",
        )  # fmt: skip


def _manifests(parser: Parser) -> None:
    """The flag -o of commands whose answers are objects."""
    parser.add_argument(
        "-o", "--output", choices=["yaml", "json"], default="yaml", help="format (default: yaml)"
    )
