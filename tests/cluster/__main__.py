"""``python -m cluster up|run|down|prepare``: a cluster with a real node that outlives the command that started it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster import host, images
from cluster.inside import InsideCluster
from cluster.real import RealCluster
from testbed import background, gobuild, tools
from testbed.background import down
from testbed.gobuild import say

UP_TIMEOUT = 300.0
IMAGES: dict[str, Callable[[], images.Image]] = {
    "operator": images.operator_image,
    "engine": images.engine_image,
}


def prepare(wanted: Sequence[str] = tuple(IMAGES)) -> None:
    """Build everything that a start needs, and images: once a machine, minutes; later seconds."""
    host.ensure_host_packages()
    tools.ensure((*tools.CONTROL_PLANE, *RealCluster.needed))
    images.pause_image()
    for name in wanted:
        IMAGES[name]()


def prepare_if_possible() -> int:
    """Prepare; where no real node can run, say so by name and be content."""
    reason = host.why_unfit()
    if reason:
        say(f"tests that need a real node will NOT RUN here: a real node {reason}")
        return 0
    return complaining(prepare)


def complaining(work: Callable[[], None]) -> int:
    """Do it; 1 and a message when it cannot be done."""
    try:
        work()
    except (host.HostUnfitError, tools.ToolUnavailable, gobuild.BuildError) as error:
        say(str(error))
        return 1
    return 0


def hold(directory: Path, options: argparse.Namespace) -> int:
    """Run a cluster in this process until SIGTERM or SIGINT."""
    with RealCluster.start(directory) as cluster:
        for name in options.images:
            print(cluster.load(IMAGES[name]()), flush=True)
        if options.gpus:
            cluster.set_gpus(options.gpus)
        cluster.add_nodes(*options.nodes)
        background.hold(directory)
    return 0


def up(directory: Path, options: argparse.Namespace) -> int:
    """Start a cluster in the background, print its kubeconfig's path, and return."""
    code = complaining(lambda: prepare(options.images))
    words = ["--nodes", *options.nodes, "--images", *options.images, "--gpus", str(options.gpus)]
    return code or background.up("cluster", directory, words, UP_TIMEOUT)


def run(directory: Path, command: Sequence[str]) -> int:
    """Run a command on the node of a cluster, here and with this terminal."""
    cluster = InsideCluster.open(directory)
    cluster.offer("kubectl", *({command[0]} & set(tools.TOOLS)))
    words = [*cluster.enter(Path.cwd()), *command]
    return subprocess.run(words, env=cluster.environment()).returncode


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    functions = {"prepare": prepare_if_possible, "up": up, "run": run, "down": down, "hold": hold}
    for name, function in functions.items():
        command = commands.add_parser(name, help=(function.__doc__ or "").splitlines()[0])
        if name != "prepare":
            command.add_argument("--dir", type=Path, required=True, help="where the cluster keeps its files")
        if name in ("up", "hold"):
            command.add_argument(
                "--nodes", nargs="*", default=[], metavar="KIND", help="simulated nodes, of nodes.yaml"
            )
            command.add_argument(
                "--images", nargs="*", default=[], choices=IMAGES, help="images to build and load"
            )
            command.add_argument(
                "--gpus", type=int, default=0, help="GPUs that the real node shall claim to have"
            )
        if name == "run":
            command.add_argument("argv", nargs=argparse.REMAINDER, help="the command")
    return parser


def main() -> int:
    """Entry point."""
    options = arguments().parse_args()
    if options.command == "prepare":
        return prepare_if_possible()
    directory = options.dir.absolute()
    if options.command == "down":
        return down(directory)
    if options.command == "run":
        return run(directory, options.argv[options.argv[:1] == ["--"] :])
    return (up if options.command == "up" else hold)(directory, options)


if __name__ == "__main__":
    sys.exit(main())
