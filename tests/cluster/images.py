"""Container images, built by buildah into the user cache and kept there by the hash of what went into them.

No daemon and no registry: :func:`operator_image` builds the shipped ``Dockerfile`` as it is, with its base image given as
the build argument it has for that, and the result is an archive that the node's containerd imports.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.baseimage import make_root_file_system, root_file_system_key
from cluster.host import POLICY, HostPackages, ensure_host_packages
from testbed import gobuild, tools
from testbed.gobuild import build_once, run_reporting

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENGINE = HERE / "engine"
ENGINE_NEEDS = (
    *("aiohappyeyeballs", "aiohttp", "aiosignal", "attrs", "frozenlist", "idna", "multidict", "propcache"),
    *("typing-extensions", "yarl"),
)
SIMULATOR = ("__init__.py", "engine_server.py", "vllm_metrics.py")
PAUSE_PACKAGE = "aim-engine-operator/cluster/pause"
KEPT = 3
"""Archives of each image that are kept however old they are."""
IN_USE_SECONDS = 3 * 3600.0
"""Archives used so recently are kept too: another checkout of this user may be about to load one."""
STORE_LIMIT = 6 << 30
"""Bytes of layers that buildah may keep before it begins anew."""
BLOB_CACHE = Path("/var/lib/containers")
"""Where buildah, whatever it is told, remembers registries."""
CA_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Image:
    """An image in an archive, under the name it has there."""

    name: str
    archive: Path


def home() -> Path:
    """Where images are built and kept."""
    return tools.cache_root() / "images"


def build_image(
    name: str, context: Path, *, dockerfile: str = "Dockerfile", arguments: Mapping[str, str] | None = None
) -> Image:
    """The image of a Dockerfile whose ``ARG BASE`` names its base, as ``localhost/NAME:HASH``.

    The hash is of the Dockerfile, ``.dockerignore``, every file that it copies from ``context``, the arguments and the
    base, so an unchanged image is only looked up and a changed one is never mistaken for the old.
    """
    given = dict(arguments or {})
    key = hash_of(
        inputs(context, context / dockerfile), [root_file_system_key(), *map(str, sorted(given.items()))]
    )

    def build(output: Path) -> None:
        builder = Builder(ensure_host_packages())
        given["BASE"] = builder.base()
        builder.build(f"localhost/{name}:{key}", context, context / dockerfile, given, output)

    return archived(name, key, build)


def archived(name: str, key: str, build: Callable[[Path], None]) -> Image:
    """The image ``localhost/NAME:KEY``, built now if its archive is not there; the oldest of the name are dropped."""
    file = f"{name}-{key}.tar"
    archives = home() / "archives"
    build_once(archives, [file], lambda output, _: build(output / file))
    (archives / file).touch()
    for old in newest_first(archives.glob(f"{name}-*.tar"))[KEPT:]:
        with suppress(FileNotFoundError):
            if time.time() - old.stat().st_mtime > IN_USE_SECONDS:
                old.unlink()
    return Image(f"localhost/{name}:{key}", archives / file)


def newest_first(paths: Iterator[Path]) -> list[Path]:
    """By the time of the last use."""
    return sorted(paths, key=lambda path: path.stat().st_mtime if path.exists() else 0.0, reverse=True)


@functools.cache
def operator_image() -> Image:
    """The image that users run, from the repository's Dockerfile."""
    return build_image("aim-engine-operator", ROOT)


@functools.cache
def engine_image() -> Image:
    """An image whose ``vllm`` command is the testbed's simulated engine."""
    with tempfile.TemporaryDirectory() as directory:
        context = Path(directory)
        shutil.copytree(ENGINE, context, dirs_exist_ok=True)
        (context / "testbed").mkdir()
        for file in SIMULATOR:
            shutil.copy2(HERE.parent / "testbed" / file, context / "testbed")
        lock = (ROOT / "requirements-runtime.lock").read_text()
        (context / "requirements.txt").write_text(locked(lock, ENGINE_NEEDS))
        return build_image("simulated-engine", context, dockerfile="Containerfile")


@functools.cache
def pause_image() -> Image:
    """The image of pod sandboxes: one static program, no base."""
    module = HERE / "go" / "pause"
    key = hash_of(sorted((path.name, path) for path in module.iterdir()), [])

    def build(output: Path) -> None:
        with tempfile.TemporaryDirectory(dir=output.parent) as directory:
            context = Path(directory)
            gobuild.go_build(
                gobuild.find_go(tools.cache_root()), module, {"pause": PAUSE_PACKAGE}, {}, context
            )
            (context / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
            builder = Builder(ensure_host_packages())
            builder.build(f"localhost/pause:{key}", context, context / "Dockerfile", {}, output)

    return archived("pause", key, build)


def locked(lock: str, names: Sequence[str]) -> str:
    """The entries of a lock file, with their hashes, of the named distributions."""
    entries = {
        match[1]: match[0] for match in re.finditer(r"^([\w.-]+)==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    }
    return "".join(entries[name] for name in names)


def copied(dockerfile: str) -> list[str]:
    """What a Dockerfile copies from its context."""
    found: list[str] = []
    for line in dockerfile.replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:1] in (["COPY"], ["ADD"]) and not any(word.startswith("--from") for word in words):
            found += [word for word in words[1:-1] if not word.startswith("--")]
    return found


def inputs(context: Path, dockerfile: Path) -> list[tuple[str, Path]]:
    """Name and path of every file an image is made of, in a fixed order."""
    found = [(dockerfile.name, dockerfile)]
    for source in [".dockerignore", *copied(dockerfile.read_text())]:
        path = context / source
        if path.is_dir():
            found += [
                (str(file.relative_to(context)), file) for file in sorted(path.rglob("*")) if counts(file)
            ]
        elif path.exists():
            found.append((source, path))
    return found


def counts(file: Path) -> bool:
    """Whether a file gets into an image: .dockerignore leaves out what Python compiled."""
    return file.is_file() and file.suffix != ".pyc"


def hash_of(files: Sequence[tuple[str, Path]], more: Sequence[str]) -> str:
    """A short hash of names, contents and ``more``."""
    digest = hashlib.sha256("\0".join(more).encode())
    for name, path in files:
        digest.update(f"\0{name}\0{path.stat().st_mode & 0o111}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


class Builder:
    """buildah with a store of its own. Uses are serialised by the lock of the archives."""

    def __init__(self, packages: HostPackages) -> None:
        self.packages = packages
        self.store = home() / "store"
        self._forget_if_large()
        self.store.mkdir(parents=True, exist_ok=True)
        self.configuration = home() / "storage.conf"
        self.configuration.write_text(
            f'[storage]\ndriver = "overlay"\nrunroot = "{self.store}/run"\ngraphroot = "{self.store}/graph"\n'
        )

    def _forget_if_large(self) -> None:
        if self.store.exists():
            used = subprocess.run(
                ["du", "-s", "-x", "-B1", self.store], capture_output=True, text=True
            ).stdout
            if int(used.split()[0]) > STORE_LIMIT:
                shutil.rmtree(self.store)

    def buildah(self, what: str, *arguments: str | Path) -> None:
        """Run one command; BuildError shows its last output."""
        with mount_point(BLOB_CACHE):
            run_reporting(what, self._command(*arguments), env=self._environment())

    def has(self, name: str) -> bool:
        """Whether the store has an image of that name."""
        command = self._command("inspect", "--type", "image", name)
        with mount_point(BLOB_CACHE):
            return subprocess.run(command, env=self._environment(), capture_output=True).returncode == 0

    def _command(self, *arguments: str | Path) -> list[str]:
        return self.packages.command("buildah", *arguments, hidden=BLOB_CACHE)

    def _environment(self) -> dict[str, str]:
        nothing = dict.fromkeys(("CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF"), os.devnull)
        return {**os.environ, **nothing, "CONTAINERS_STORAGE_CONF": str(self.configuration)}

    @property
    def _policy(self) -> str:
        return f"--signature-policy={self.packages.home / POLICY}"

    def base(self) -> str:
        """Name of the base image in the store, made now if it is not there."""
        key = root_file_system_key()
        name = f"localhost/testbed-python:{key}"
        if not self.has(name):
            archive = f"{key}.tar"
            directory = home() / "root-file-systems"
            build_once(
                directory, [archive], lambda output, _: make_root_file_system(self.packages, output / archive)
            )
            with tempfile.TemporaryDirectory(dir=directory) as context:
                os.link(directory / archive, Path(context, "rootfs.tar"))
                Path(context, "Dockerfile").write_text('FROM scratch\nADD rootfs.tar /\nCMD ["python3"]\n')
                self.buildah(
                    f"building {name}", "bud", "--isolation=chroot", self._policy, "--tag", name, context
                )
        return name

    def build(
        self, name: str, context: Path, dockerfile: Path, arguments: Mapping[str, str], archive: Path
    ) -> None:
        """Build an image and write it to ``archive``. Layers of earlier builds are used again."""
        with tempfile.TemporaryDirectory() as scratch:
            options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
            options += [f"--volume={source}:{target}:ro" for source, target in lent(Path(scratch)).items()]
            self.buildah(
                f"building {name}",
                *("bud", "--isolation=chroot", "--layers", "--pull=never", self._policy, *options),
                *("--tag", name, "--file", dockerfile, context),
            )
        target = f"docker-archive:{archive}:{name}"
        self.buildah(f"writing {name}", "push", "--format=v2s2", self._policy, name, target)


@contextmanager
def mount_point(directory: Path) -> Iterator[None]:
    """Let a directory exist meanwhile, so that an empty one can be mounted on it where only we see that."""
    missing = not directory.exists()
    if missing:
        directory.mkdir()
    try:
        yield
    finally:
        if missing:
            directory.rmdir()


def lent(scratch: Path) -> dict[str, str]:
    """Files of the machine that RUN lines need to reach its package index: file -> place in the build container."""
    found: dict[str, str] = {}
    authorities = os.environ.get("SSL_CERT_FILE", CA_CERTIFICATES)
    if Path(authorities).is_file():
        found[authorities] = CA_CERTIFICATES
    configuration = pip_configuration()
    if configuration:
        (scratch / "pip.conf").write_text(configuration)
        found[str(scratch / "pip.conf")] = "/etc/pip.conf"
    return found


def pip_configuration() -> str:
    """Where pip finds packages, as this machine's pip was told by its files or by PIP_INDEX_URL."""
    index = os.environ.get("PIP_INDEX_URL")
    if index:
        return f"[global]\nindex-url = {index}\n"
    candidates = [
        os.environ.get("PIP_CONFIG_FILE", os.devnull),
        "~/.config/pip/pip.conf",
        "~/.pip/pip.conf",
        "/etc/pip.conf",
    ]
    files = [Path(candidate).expanduser() for candidate in candidates]
    return next((file.read_text() for file in files if file.is_file()), "")
