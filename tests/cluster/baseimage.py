"""The base image of the images under test: a Debian (or relative) with Python, made from packages, as no registry serves here."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from cluster.host import HostPackages, distribution, home
from testbed.gobuild import BuildError, run_reporting

INCLUDED = ("ca-certificates", "python3", "python3-pip", "python3-venv", "tzdata")
UNNEEDED = (
    *("var/cache/apt/*.bin", "var/cache/apt/archives/*.deb", "var/lib/apt/lists/*", "var/log/*", "run/*"),
    *("usr/share/doc/*", "usr/share/info/*", "usr/share/lintian/*", "usr/share/locale/*", "usr/share/man/*"),
    # As in the images that Dockerfiles expect, pip may install into the system's Python.
    "usr/lib/python3*/EXTERNALLY-MANAGED",
    # Compiled code of pip. The standard library's stays, or each container would compile it anew.
    "usr/lib/python3/dist-packages/**/__pycache__",
)


def root_file_system_key() -> str:
    """Changes when another root file system would come out."""
    return hashlib.sha256(repr((home().name, INCLUDED, UNNEEDED)).encode()).hexdigest()[:12]


def sources() -> tuple[str, str, list[str]]:
    """Suite, mirror and components from which the machine itself takes its packages."""
    release = distribution()
    suite = release.get("VERSION_CODENAME", "")
    wanted = [
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI) $(COMPONENT)",
        "Created-By: Packages",
    ]
    answer = subprocess.run(wanted, capture_output=True, text=True)
    rows = [line.split() for line in answer.stdout.splitlines()]
    known = [(uri, component) for codename, uri, component in rows if codename == suite]
    if not known:
        raise BuildError(f"apt has no source of packages for {suite or 'this distribution'}: {answer.stderr}")
    mirror = known[0][0]
    return suite, mirror, sorted({component for uri, component in known if uri == mirror})


def make_root_file_system(packages: HostPackages, archive: Path) -> None:
    """Write the root file system as a tar archive."""
    suite, mirror, components = sources()
    root = archive.with_suffix(".root")
    options = ["--variant=minbase", f"--include={','.join(INCLUDED)}", f"--components={','.join(components)}"]
    try:
        run_reporting(
            f"making a root file system of {suite} with Python (once)",
            packages.command("debootstrap", *options, suite, root, mirror),
        )
        remove_unneeded(root, UNNEEDED)
        (root / "usr" / "bin" / "python").symlink_to("python3")
        with tarfile.open(archive, "w") as tar:
            tar.add(root, ".")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def remove_unneeded(root: Path, patterns: Sequence[str]) -> None:
    """Delete what matches below ``root``."""
    for pattern in patterns:
        for path in list(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
