"""AIM Engine operator: the best recipe for every model on the AMD GPUs that are really free."""

__version__ = "0.1.0"
CONFIG_VARIABLE = "AIM_ENGINE_CONFIG"
"""Environment variable that names the operator's configuration file."""
