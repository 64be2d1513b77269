"""Namespaces and mounts by system call. Also a program: ``python -I -S namespaces.py [--empty=DIR] USR COMMAND...``.

As a program it runs a command in a mount namespace of its own whose ``/usr`` has the unpacked packages of the directory
USR laid over the machine's, so that they need not be installed. DIR seems empty to the command. Mounts that it makes, and
what it writes to DIR, vanish with it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 0x1
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SHARED = 0x100000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; a new process namespace holds the children only."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def die_with_parent(signal_number: int) -> None:
    """Let the kernel send this process a signal when the thread that started it ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal_number), "prctl")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2); OSError names both ends."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mounting {source} on {target}")


def private_mounts() -> None:
    """A mount namespace of our own, from which nothing comes back to the machine's."""
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def lay_over_usr(directory: str) -> None:
    """Show the files of ``directory`` in /usr beside the machine's own; /usr becomes read-only."""
    upper = directory.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    mount("overlay", "/usr", "overlay", MS_RDONLY, f"lowerdir={upper}:/usr")


def bind(source: str, target: str) -> None:
    """Show ``source`` in the place of ``target``, which may be a link to a file below /run that is not there yet."""
    place = os.path.realpath(target)
    if not os.path.exists(place):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Path(place).touch()
    mount(source, place, flags=MS_BIND)


def main() -> None:
    """Replace this process by the command, see the head of this module."""
    arguments = sys.argv[1:]
    private_mounts()
    while arguments[0].startswith("--empty="):
        mount("tmpfs", arguments.pop(0).partition("=")[2], "tmpfs")
    usr, *command = arguments
    lay_over_usr(usr)
    os.execvp(command[0], command)  # noqa: S606 - the command is our caller's


if __name__ == "__main__":
    main()
