"""One module per subcommand; edgefc/cli.py finds them.

A command module has

    a docstring         first line: usage; then what --help prints
    TASK                the group that edgefc --help lists it in: make, check, measure, devices or learn
    add_arguments(parser), run(args) -> exit code
    SCHEMAS, EXTRA, schema(name)    where it has --json: the names of what it writes, the extra that their types need,
                                    and their JSON Schema

Nothing heavy is imported before run() and schema().
"""

import importlib
import pkgutil
from types import ModuleType


def modules() -> dict[str, ModuleType]:
    """Every command's module by the command's name."""
    return {found.name: importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)}
