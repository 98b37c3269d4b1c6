"""One module per subcommand; edgefc/cli.py finds them.

A command module has

    a docstring         first line: usage; then what --help prints
    TASK                the group of the command in edgefc --help: make, check, measure, devices or learn
    add_arguments(parser), run(args) -> exit code
    SCHEMAS, EXTRA, schema(name)    for commands with --json: the names of the files that it writes, the extra that
                                    their types need, and their JSON Schema

Nothing heavy is imported before run() and schema().
"""

import importlib
import pkgutil
from types import ModuleType


def modules() -> dict[str, ModuleType]:
    """The module of each command, by the name of the command."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
