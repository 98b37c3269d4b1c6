"""The list of recipes: the modules of this folder with a constant RECIPE."""

import difflib
import importlib
import pkgutil

import edgefc.recipes
from edgefc.errors import UsageError
from edgefc.recipes.recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """All recipes by name, sorted by name."""
    modules = (
        importlib.import_module(f"edgefc.recipes.{m.name}") for m in pkgutil.iter_modules(edgefc.recipes.__path__)
    )
    all_recipes = [module.RECIPE for module in modules if hasattr(module, "RECIPE")]
    return {recipe.name: recipe for recipe in all_recipes}


def recipe(name: str) -> Recipe:
    """The recipe with a name.

    Raises:
        UsageError: no recipe has this name.
    """
    by_name = recipes()
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, 1)
        guess = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no recipe {name!r}. {guess}Choose one of: {', '.join(by_name)}.")
    return by_name[name]
