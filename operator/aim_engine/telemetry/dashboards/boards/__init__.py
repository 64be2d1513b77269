"""The dashboards, one module each, with a function `board` that makes it."""
