"""Recipes of other projects turned into AIMRecipes. Pure: files come in as parsed values."""
