"""AIM Engine operator: the best recipe for every model on the AMD GPUs that are really free."""

__version__ = "0.1.0"
