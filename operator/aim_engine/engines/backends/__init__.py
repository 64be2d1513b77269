"""Inference engines: one module per backend, each answering `engines.types.Engine`. A module in this folder is a backend."""
