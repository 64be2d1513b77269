"""Fixtures for all tests: a real control plane, or a cluster with a real node, for those that ask for one."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["testbed.fixtures", "cluster.fixtures"]

patient = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no failure
settings.register_profile("repeatable", patient, derandomize=True)
settings.register_profile("searching", patient, print_blob=True)
settings.load_profile("repeatable")
