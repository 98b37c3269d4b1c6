"""The edgefc command. Each subcommand is one module in edgefc/commands/.

A command module has a docstring (first line: usage; the rest: the text of --help), add_arguments(parser) and
run(args) -> exit code. Slow imports belong in run().

Exit codes: 0 success, 1 a check failed, 2 usage error, 3 device error, 130 interrupted (Ctrl-C), 143 terminated
(SIGTERM), 129 hangup (SIGHUP).

After a signal, the command shows and writes the results that are complete, stops its child processes and removes its
temporary folders (endings.py). If stdout cannot be written, for example to a full disk, exit code 0 becomes 2. A closed
pipe does not change the exit code. The command still writes the record file that was requested (screen.py).
"""

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

import edgefc
import edgefc.commands
from edgefc import endings, screen
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

    If the user's code calls exit with code 0 where no command handles it, that is an error too.
    """
    args = _parser().parse_args(words)
    prefix = f"edgefc {args.command}:"
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries of torch would end the process without a message
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
    except (OSError, MemoryError, ImportError, SystemError) as error:
        refused = refused_by_system(error)
        if refused is None:
            raise
        err(f"{prefix} {refused}")
        return EdgefcError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="edgefc", description=edgefc.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"edgefc {edgefc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for entry in pkgutil.iter_modules(edgefc.commands.__path__):
        module = importlib.import_module(f"edgefc.commands.{entry.name}")
        _usage, _, text = (module.__doc__ or "").partition("\n\n")
        sub = commands.add_parser(
            entry.name,
            help=text.split("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser
