"""The recipes there are: the modules of this folder that hold a constant RECIPE."""

import difflib
import importlib
import pkgutil

import edgefc.recipes
from edgefc.errors import UsageError
from edgefc.recipes.recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """By name, in the order of names."""
    modules = (
        importlib.import_module(f"edgefc.recipes.{m.name}") for m in pkgutil.iter_modules(edgefc.recipes.__path__)
    )
    found = [module.RECIPE for module in modules if hasattr(module, "RECIPE")]
    return {recipe.name: recipe for recipe in found}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none.
    """
    found = recipes()
    if name not in found:
        near = difflib.get_close_matches(name, found, 1)
        guess = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no recipe {name!r}. {guess}Choose one of: {', '.join(found)}.")
    return found[name]
