"""The edgefc command. Each subcommand is one module in edgefc/commands/.

A command module has a docstring (first line: usage; then what --help prints), add_arguments(parser)
and run(args) -> exit code. Nothing heavy is imported before run().

Exit codes: 0 done, 1 a check failed, 2 usage, 3 device, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM), 129 hangup
(SIGHUP). After a signal, what was finished is shown and written, children end, and temporary folders are removed
(endings.py).
"""

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence

import edgefc
import edgefc.commands
from edgefc import endings
from edgefc.errors import EdgefcError, at_limit
from edgefc.runtime.child import OWN_ENVIRONMENT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; an EdgefcError or a signal becomes one line on stderr.

    Code of the user's that ends the process with exit code 0, in a place that no command expects, is an error too.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    command = [word for word in words[:1] if word.isalpha()]
    return endings.run(" ".join(["edgefc", *command]), lambda: _run(words))


def _run(words: Sequence[str]) -> int:
    args = _parser().parse_args(words)
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries of torch end the process then, without a reason
        print(
            f"edgefc {args.command}: the current folder no longer exists. Change to another one: cd ~", file=sys.stderr
        )
        return EdgefcError.exit_code
    for name, value in OWN_ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # before onnxruntime is imported
    try:
        return int(args.run(args))
    except SystemExit as error:
        if error.code not in (None, 0):  # rich, on a pipe that closed early, among others
            raise
        print(f"edgefc {args.command}: the model's code ended the process: SystemExit: {error}.", file=sys.stderr)
        return EdgefcError.exit_code
    except EdgefcError as error:
        print(f"edgefc {args.command}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if at_limit(error) is None:
            raise
        print(f"edgefc {args.command}: {error.strerror}. {at_limit(error)}", file=sys.stderr)
        return EdgefcError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgefc", description=edgefc.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"edgefc {edgefc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for found in pkgutil.iter_modules(edgefc.commands.__path__):
        module = importlib.import_module(f"edgefc.commands.{found.name}")
        _usage, _, text = (module.__doc__ or "").partition("\n\n")
        sub = commands.add_parser(
            found.name,
            help=text.split("\n")[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser
