"""The edgefc command. Each subcommand is one module in edgefc/commands/.

Exit codes: 0 success, 1 a check failed, 2 usage error, 3 device error, 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM), 129 hangup (SIGHUP). After a signal, the command shows and writes the finished results, ends its child
processes and removes its temporary folders (endings.py). If stdout cannot be written, for example on a full disk, the
exit code is 2 instead of 0. A closed pipe does not change the exit code. In both cases the file of --json is written
(screen.py).
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

import edgefc
from edgefc import endings, screen
from edgefc.commands import modules
from edgefc.errors import EdgefcError, describe_error, refused_by_system
from edgefc.runtime.probes.child import OWN_ENVIRONMENT
from edgefc.screen import Parser, err


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    Raises:
        SystemExit: after --help and --version, and if the arguments cannot be parsed.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    program = " ".join(["edgefc", *(word for word in words[:1] if word.isalpha())])
    return screen.run(lambda: endings.run(program, lambda: _command(words)))


def _command(words: Sequence[str]) -> int:
    """Run the subcommand. An EdgefcError is printed as one line on stderr.

    A call of exit(0) by the user's code, which no command handles, is an error too.
    """
    args = _parser().parse_args(words)
    prefix = f"edgefc {args.command}:"
    try:
        os.getcwd()
    except FileNotFoundError:  # otherwise libraries of torch end the process without a message
        err(f"{prefix} the current folder no longer exists. Change to another one: cd ~")
        return EdgefcError.exit_code
    for name, value in OWN_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # before onnxruntime is imported
    try:
        return int(args.run(args))
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        err(f"{prefix} the model's code ended the process: {describe_error(error)}.")
        return EdgefcError.exit_code
    except EdgefcError as error:
        err(f"{prefix} {error}")
        return error.exit_code
    except (OSError, MemoryError, ImportError, SystemError, RuntimeError) as error:  # torch: RuntimeError
        refused = refused_by_system(error)
        if refused is None:
            raise
        err(f"{prefix} {refused}")
        return EdgefcError.exit_code


TASKS = {
    "make": "write .onnx files",
    "check": "read and verify .onnx files",
    "measure": "measure and predict their cost",
    "devices": "list and prepare devices",
    "learn": "list layers and schemas, run experiments",
}


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="edgefc", description=edgefc.__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"edgefc {edgefc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", help="see the list below")
    lines: dict[str, list[str]] = {task: [] for task in TASKS}
    for name, module in modules().items():
        _usage, _, text = (module.__doc__ or "").partition("\n\n")
        sub = commands.add_parser(
            name, description=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
        lines[module.TASK].append(f"  {name:<9} {text.split(chr(10))[0]}")
    parser.epilog = _tasks(lines)
    return parser


def _tasks(lines: Mapping[str, Sequence[str]]) -> str:
    """The commands by task."""
    groups = ("\n".join((f"{task}: {TASKS[task]}", *each)) for task, each in lines.items())
    return "\n\n".join((*groups, "edgefc COMMAND --help shows the options of a command."))
