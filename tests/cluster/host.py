"""What the real node and the builder of its images need of the machine, and what is missing, by name.

Container programs are taken from the packages of the machine's distribution (Debian or a relative of it). They are
unpacked into the user cache and shown in /usr by a mount that only we see, and so never installed: an installed
containerd would run as a service, and an installed CNI plugin would stay.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster import namespaces
from testbed import tools
from testbed.gobuild import BuildError, build_once, run_reporting, say

PACKAGES = (
    *("containerd", "runc", "containernetworking-plugins", "iptables", "conntrack", "iproute2"),
    *("buildah", "debootstrap", "gpgv", "wget"),
)
CNI_PLUGINS = tuple(f"lib/cni/{name}" for name in ("bridge", "host-local", "loopback", "portmap"))
PROGRAMS = {
    "containerd": ("bin/containerd", "bin/ctr", "bin/containerd-shim-runc-v2"),
    "runc": ("sbin/runc",),
    "containernetworking-plugins": CNI_PLUGINS,
    "iptables": ("sbin/iptables", "sbin/iptables-restore", "sbin/iptables-save"),
    "conntrack": ("sbin/conntrack",),
    "iproute2": ("bin/ip",),
    "buildah": ("bin/buildah",),
    "debootstrap": ("sbin/debootstrap",),
    "wget": ("bin/wget",),
}
"""Package -> files below /usr without which we cannot do."""
XTABLES = (
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
)
OS_RELEASE = Path("/etc/os-release")
POLICY = "etc/containers/policy.json"


class HostUnfitError(RuntimeError):
    """This machine cannot hold a real node; the message says why, by name."""


@dataclass(frozen=True)
class HostPackages:
    """Where the container programs are."""

    home: Path
    """Unpacked packages; ``home / "usr"`` belongs over /usr."""

    @property
    def usr(self) -> Path:
        """Files to lay over /usr."""
        return self.home / "usr"

    def command(self, *argv: str | Path, hidden: Path | None = None) -> list[str]:
        """A command that runs ``argv`` with the packages in /usr, in a mount namespace that ends with it.

        What it writes in the directory ``hidden`` ends with it, too.
        """
        empty = [f"--empty={hidden}"] if hidden else []
        return [sys.executable, "-I", "-S", namespaces.__file__, *empty, str(self.usr), *map(str, argv)]


def why_unfit() -> str | None:
    """Why no real node can run here; None where it can. Looks, and changes nothing for good."""
    if sys.platform != "linux":
        return f"needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "needs root: mounts, network interfaces and cgroups are made"
    refusal = probe_kernel()
    if refusal:
        return f"needs what this machine's kernel or container refuses: {refusal}"
    if not shutil.which("apt-get") and (missing := missing_files(Path("/nowhere"))):
        return f"needs apt-get, or installed: {', '.join(missing)}"
    return None


def probe_kernel() -> str | None:
    """What the kernel refuses of that which a node needs; None when it is all there."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("probe.py"))]
    probe = subprocess.run(command, capture_output=True, text=True)
    return None if probe.returncode == 0 else (probe.stderr.strip() or "no reason given").splitlines()[-1]


def missing_files(usr: Path) -> dict[str, list[str]]:
    """Package -> its files that are neither below ``usr`` nor in /usr."""
    missing: dict[str, list[str]] = {}
    for package, files in PROGRAMS.items():
        for file in files:
            if not os.path.lexists(usr / file) and not Path("/usr", file).exists():
                missing.setdefault(package, []).append(f"/usr/{file}")
    return missing


def distribution() -> dict[str, str]:
    """Fields of os-release."""
    pairs = re.findall(r'^(\w+)="?(.*?)"?$', OS_RELEASE.read_text(), re.MULTILINE)
    return dict(pairs)


def home() -> Path:
    """Directory of the unpacked packages; another distribution or list of packages has another."""
    release = distribution()
    key = [release.get("ID", ""), release.get("VERSION_CODENAME", ""), platform.machine(), *PACKAGES]
    return tools.cache_root() / f"packages-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}"


@cache
def ensure_host_packages() -> HostPackages:
    """Unpack what the machine lacks, once; HostUnfitError names what cannot be had and why."""
    reason = why_unfit()
    if reason:
        raise HostUnfitError(f"a real node {reason}")
    directory = home()
    if (directory / "unpacked").exists() and missing_files(directory / "usr"):
        (directory / "unpacked").unlink()  # it relied on a package that was installed then
    try:
        build_once(directory, ["unpacked"], lambda output, _: unpack(directory, output / "unpacked"))
    except BuildError as error:
        raise HostUnfitError(f"the packages {', '.join(PACKAGES)} could not be had: {error}") from error
    return HostPackages(directory)


def unpack(directory: Path, marker: Path) -> None:
    """Download and unpack what the machine lacks below ``directory``, then write ``marker``."""
    say(f"unpacking {', '.join(PACKAGES)} (once; kept in the user cache, nothing is installed)")
    for stale in ("usr", "etc"):
        shutil.rmtree(directory / stale, ignore_errors=True)
    (directory / "usr").mkdir(parents=True)
    if shutil.which("apt-get"):
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            Path(scratch).chmod(0o777)  # apt downloads as a user of its own
            for archive in download(to_fetch(PACKAGES), Path(scratch)):
                unpack_archive(archive, directory)
    name_iptables(directory / "usr")
    missing = missing_files(directory / "usr")
    if missing:
        files = "; ".join(f"{package}: {', '.join(names)}" for package, names in missing.items())
        raise BuildError(f"missing after unpacking: {files}")
    marker.touch()


def to_fetch(packages: Sequence[str]) -> list[str]:
    """``packages`` and all they need, less what is installed. Refreshes apt's lists if they know too little."""
    simulate = ["apt-get", "--simulate", "install", "--no-install-recommends", *packages]
    answer = subprocess.run(simulate, capture_output=True, text=True)
    if answer.returncode != 0:
        run_reporting("apt-get update", ["apt-get", "update"])
        answer = subprocess.run(simulate, capture_output=True, text=True)
    if answer.returncode != 0:
        raise BuildError(f"apt-get knows no way to get them:\n{answer.stderr.strip()}")
    # "Inst NAME (VERSION ...": new. "Inst NAME [OLD] (NEW ...": an upgrade of what is there, which we need not touch.
    return re.findall(r"^Inst (\S+) \(", answer.stdout, re.MULTILINE)


def download(packages: Sequence[str], directory: Path) -> list[Path]:
    """The packages' archives in ``directory``; tried once more with fresh lists, since old ones name old versions."""
    command = ["apt-get", "download", *packages]
    if packages:
        try:
            run_reporting("downloading packages", command, cwd=directory)
        except BuildError:
            run_reporting("apt-get update", ["apt-get", "update"])
            run_reporting("downloading packages", command, cwd=directory)
    return sorted(directory.glob("*.deb"))


def unpack_archive(archive: Path, directory: Path) -> None:
    """Unpack /usr and /etc/containers of one package; older packages have programs outside of /usr."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        run = subprocess.run(["dpkg-deb", "--extract", archive, scratch], capture_output=True, text=True)
        if run.returncode != 0:
            raise BuildError(f"dpkg-deb --extract {archive.name}: {run.stderr}")
        for source, target in (("usr", "usr"), *((name, f"usr/{name}") for name in ("bin", "sbin", "lib"))):
            if Path(scratch, source).is_dir():
                shutil.copytree(Path(scratch, source), directory / target, symlinks=True, dirs_exist_ok=True)
        if Path(scratch, POLICY).exists():
            (directory / POLICY).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(scratch, POLICY), directory / POLICY)


def name_iptables(usr: Path) -> None:
    """Give iptables its usual names, which the package's installation would choose among two families."""
    if (usr / "sbin" / "xtables-nft-multi").exists():
        for name in XTABLES:
            link = usr / "sbin" / name
            link.unlink(missing_ok=True)
            link.symlink_to("xtables-nft-multi")
