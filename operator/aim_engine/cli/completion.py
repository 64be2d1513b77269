"""`aim-engine completion`: completion scripts, from the parser itself."""

from __future__ import annotations

import argparse
import sys

from aim_engine.cli import COMMANDS, build_parser
from aim_engine.cli.arguments import RECIPE_ACTIONS
from aim_engine.cli.output import Exit

_BASH = """\
# Completion of aim-engine and kubectl-aim for bash.
_aim_engine() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} words
  if [[ $current != -* ]] && (( COMP_CWORD > 1 )) && [[ ${{COMP_WORDS[COMP_CWORD-1]}} == -* ]]; then
    COMPREPLY=($(compgen -f -- "$current")); return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
    *) words="{commands}" ;;
  esac
  (( COMP_CWORD == 1 )) && words="{commands}"
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ ${{#COMPREPLY[@]}} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _aim_engine aim-engine kubectl-aim
"""
_ZSH = """\
#compdef aim-engine kubectl-aim
# Completion of aim-engine and kubectl-aim for zsh.
autoload -U +X bashcompinit && bashcompinit
{bash}"""


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    match arguments.shell:
        case "bash":
            sys.stdout.write(_bash())
        case "zsh":
            sys.stdout.write(_ZSH.format(bash=_bash()))
        case _:
            sys.stdout.write(_fish())
    return Exit.OK


def words(command: str) -> list[str]:
    """What may follow a command: its actions, then its flags."""
    found: list[str] = []
    for action in parser_of(command)._actions:  # argparse offers no other way to list them
        if isinstance(action, argparse._SubParsersAction):
            found += list(action.choices)
        elif action.choices and not action.option_strings:
            found += [str(choice) for choice in action.choices]
        found += action.option_strings
    return found


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    words = (command, *RECIPE_ACTIONS)
    commands = next(a for a in build_parser(words)._actions if isinstance(a, argparse._SubParsersAction))
    parser: argparse.ArgumentParser = commands.choices[command]
    return parser


def _bash() -> str:
    cases = "\n".join(f'    {command}) words="{" ".join(words(command))}" ;;' for command in COMMANDS)
    return _BASH.format(cases=cases, commands=" ".join(COMMANDS))


def _fish() -> str:
    lines = ["# Completion of aim-engine and kubectl-aim for fish."]
    for program in ("aim-engine", "kubectl-aim"):
        for command, about in COMMANDS.items():
            lines.append(f"complete -c {program} -n __fish_use_subcommand -a {command} -d '{about}'")
            seen = f"-n '__fish_seen_subcommand_from {command}'"
            for word in words(command):
                flag = (
                    f"-l {word[2:]}"
                    if word.startswith("--")
                    else f"-s {word[1:]}"
                    if word.startswith("-")
                    else f"-a {word}"
                )
                lines.append(f"complete -c {program} {seen} {flag}")
    return "\n".join(lines) + "\n"
