"""Recipes: what a corpus is made of, as data. `load_recipe("demo/stinystories")` reads one."""

from unitcorpus.recipe.loading import list_recipes, load_recipe
from unitcorpus.recipe.models import Recipe
from unitcorpus.recipe.section import Section

__all__ = ["Recipe", "Section", "list_recipes", "load_recipe"]
