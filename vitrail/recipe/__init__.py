"""Recipes: one strict YAML file that says all a run does. Parsed whole, checked whole, before torch is imported."""

from vitrail.recipe.read import load_recipe, recipe_names
from vitrail.recipe.schema import Recipe

__all__ = ["Recipe", "load_recipe", "recipe_names"]
