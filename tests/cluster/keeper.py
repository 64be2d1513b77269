"""The process that holds the real node: makes its namespaces, is their first process, and cleans up after it.

Started by the owner as a warden (testbed/warden.py) with one argument, a JSON file with the fields of :class:`Plan`. It
forks once. The child is process 1 of new network, mount and process namespaces and serves the owner's requests there;
when it ends the kernel kills everything in them, containers too, and forgets their mounts and addresses. The parent
stays outside, ends the child when the owner is gone in whatever way, and removes what outlives namespaces: cgroups, and
directories that were made to mount on.

Runs with ``python -I -S`` and has one thread, to which the parent-death signals of its children are tied.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import namespaces
from testbed import warden

POLL_SECONDS = 0.05
CLEANING_SECONDS = 60.0
LOCK = "\0aim-engine-real-node"
CGROUPS = Path("/sys/fs/cgroup")
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FORWARDER = Path(__file__).with_name("forwarder.py")


@dataclass(frozen=True)
class Plan:
    """What to make. Directories to mount on that do not exist are created, and removed at the end."""

    usr: str | None
    """Unpacked packages to lay over /usr."""
    binds: dict[str, str]
    """Directory or file to show -> where."""
    empty: list[str]
    """Directories that shall be empty and in memory."""
    commands: list[list[str]]
    """Set up the network."""
    sysctls: dict[str, str]
    """Of the new network namespace: path below /proc/sys -> value."""
    shadows: dict[str, str]
    """File of the kernel -> what shall be read there inside, while the machine keeps its own."""
    cgroup: str
    scratch: str
    """Directory that is emptied at the start and deleted at the end. Directories to show are made in it."""
    ports: list[int]
    """TCP ports of 127.0.0.1 outside that lead to the same port inside."""


def cgroup_directories(name: str) -> list[Path]:
    """Where a cgroup of that name is, or would be, in every hierarchy."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS / name]
    return sorted({path.resolve() / name for path in CGROUPS.iterdir() if path.is_dir()})


def make_cgroups(name: str) -> None:
    """Make an empty cgroup of that name in every hierarchy."""
    for controller in ("cpuset", "cpu", "io", "memory", "pids", "hugetlb"):
        # In version 2 a cgroup has the controllers that its parent passes on. (Written after the documentation: the
        # machines at hand have version 1.)
        if (CGROUPS / "cgroup.subtree_control").exists():
            with contextlib.suppress(OSError):
                (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
    for directory in cgroup_directories(name):
        directory.mkdir()


def remove_cgroups(name: str) -> None:
    """Remove a cgroup with everything below it, waiting some seconds for the last processes to be gone."""
    deadline = time.monotonic() + CLEANING_SECONDS
    for top in cgroup_directories(name):
        for directory, _, _ in os.walk(top, topdown=False):
            while True:
                try:
                    os.rmdir(directory)
                    break
                except FileNotFoundError:
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        print(f"keeper: {directory} stays: {error}", file=sys.stderr)
                        break
                    time.sleep(POLL_SECONDS)


def made_file(plan: Plan) -> Path:
    """Remembers the directories that we made, for the next keeper should this one be killed."""
    return Path(plan.scratch, "made.json")


def prepare(plan: Plan) -> None:
    """Remove what a killed keeper left, and make cgroups and the directories of the plan."""
    clean_up(plan)
    make_cgroups(plan.cgroup)
    Path(plan.scratch).mkdir(parents=True)
    for source in plan.binds:
        if Path(plan.scratch) in Path(source).parents:
            Path(source).mkdir(parents=True)
    made: list[str] = []
    for target in [target for source, target in plan.binds.items() if Path(source).is_dir()] + plan.empty:
        for directory in [*reversed(Path(target).parents), Path(target)]:
            if not directory.exists():
                made.append(str(directory))
                made_file(plan).write_text(json.dumps(made))
                directory.mkdir()


def clean_up(plan: Plan) -> None:
    """Remove what outlives the namespaces. Nothing is mounted in the scratch directory any more."""
    remove_cgroups(plan.cgroup)
    if made_file(plan).exists():
        for directory in reversed(json.loads(made_file(plan).read_text())):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    shutil.rmtree(plan.scratch, ignore_errors=True)


def take_turn(owner: int) -> socket.socket:
    """Wait until no other keeper runs on this machine. The kernel frees the lock when its holder and the child are gone."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    while True:
        try:
            lock.bind(LOCK)
            return lock
        except OSError:
            if os.getppid() != owner or select.select([0], [], [], POLL_SECONDS)[0]:
                sys.exit("keeper: the owner is gone, or gave up waiting for another real node to end")


def listen(ports: list[int]) -> list[socket.socket]:
    """Sockets of the machine's own network, which the forwarder takes along."""
    return [socket.create_server(("127.0.0.1", port), backlog=512) for port in ports]


def set_up(plan: Plan) -> int:
    """Make the namespaces' inside and return our process id outside."""
    outside = int(os.readlink("/proc/self"))  # of the old /proc
    namespaces.private_mounts()
    namespaces.unshare(namespaces.CLONE_NEWNET)
    namespaces.mount("proc", "/proc", "proc")
    if plan.usr:
        namespaces.lay_over_usr(plan.usr)
    for directory in plan.empty:
        namespaces.mount("tmpfs", directory, "tmpfs", data="mode=755")
    for source, target in plan.binds.items():
        namespaces.bind(source, target)
    for path, text in plan.shadows.items():
        if os.path.exists(path):
            shadow = Path(plan.scratch, path.strip("/").replace("/", "."))
            shadow.write_text(text)
            namespaces.bind(str(shadow), path)
    namespaces.mount("none", "/", flags=namespaces.MS_REC | namespaces.MS_SHARED)
    for command in plan.commands:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    for name, value in plan.sysctls.items():
        place = Path("/proc/sys", name)
        if place.exists():
            place.write_text(value)
    return outside


def reap_orphans(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Collect ended processes whose parents ended before them; those of ``children`` are left to their owner."""
    known = {child.pid: child for child in children.values()}
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            if ended.si_pid in known:
                known[ended.si_pid].poll()
            else:
                os.waitpid(ended.si_pid, 0)


def forward(listeners: list[socket.socket]) -> subprocess.Popen[bytes]:
    """Start the program that leads connections from outside to the inside."""
    numbers = [listener.fileno() for listener in listeners]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", FORWARDER, *map(str, numbers)],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        pass_fds=numbers,
        start_new_session=True,
    )


def hold(plan: Plan) -> None:
    """Serve the owner as process 1 of new namespaces until the owner closes standard input."""
    namespaces.die_with_parent(signal.SIGKILL)
    os.environ["PATH"] = PROGRAM_PATH
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # nothing outside can be reached, and Go programs would try
    listeners = listen(plan.ports)
    outside = set_up(plan)
    children = {"forwarder": forward(listeners)}
    for listener in listeners:
        listener.close()
    print(json.dumps({"pid": outside}), flush=True)
    warden.serve(children, lambda: True, lambda: reap_orphans(children))


def inside(plan: Plan) -> NoReturn:
    """The forked child: it must never return to what its parent does."""
    code = 1
    try:
        hold(plan)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(child: int, owner: int) -> None:
    """Return when the child, and with it everything in its namespaces, is gone; it shall not outlive the owner."""
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if os.getppid() != owner:
            os.kill(child, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def read_plan(path: Path) -> Plan:
    """The plan of a JSON file."""
    fields: dict[str, Any] = json.loads(path.read_text())
    return Plan(**fields)


def main() -> None:
    """Hold a node until the owner closes standard input or is gone."""
    owner = os.getppid()
    warden.ignore_signals()
    plan = read_plan(Path(sys.argv[1]))
    lock = take_turn(owner)
    prepare(plan)
    try:
        namespaces.unshare(namespaces.CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            inside(plan)
        # Only the child may hold the pipes: their end tells the owner, and the owner's end tells the child.
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1):
            os.dup2(nothing, number)
        wait_for(child, owner)
    finally:
        clean_up(plan)
        lock.close()


if __name__ == "__main__":
    main()
