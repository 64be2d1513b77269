"""`aim-engine recipes show`: whole recipes."""

from __future__ import annotations

import argparse
import sys
from difflib import get_close_matches

from aim_engine.cli.output import Exit, invalid, to_json, to_yaml
from aim_engine.cli.recipes_list import found_recipes


def run(arguments: argparse.Namespace) -> int:
    """Show."""
    known = {each.obj["metadata"]["name"]: each.obj for each in found_recipes(arguments)}
    for name in arguments.names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.6)
            hint = f"did you mean {', '.join(near)}?" if near else "see `aim-engine recipes list`"
            raise invalid(f"recipe '{name}' does not exist; {hint}")
    documents = [known[name] for name in arguments.names]
    if arguments.output == "json":
        sys.stdout.write(to_json(documents[0] if len(documents) == 1 else documents) + "\n")
    else:
        sys.stdout.write("---\n".join(to_yaml(document) for document in documents))
    return Exit.OK
