"""Fixtures for all tests: a real control plane, or a cluster with a real node, for those that ask for one."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["testbed.fixtures", "cluster.fixtures"]

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")  # a busy machine is no failure
