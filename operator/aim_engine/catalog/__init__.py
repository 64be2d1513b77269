"""Facts as data: GPUs, models, engine flags. Rows live in YAML with their source; the modules only load them."""
