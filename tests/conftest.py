"""Fixtures for all tests: a real control plane, or a cluster with a real node, for those that ask for one."""

pytest_plugins = ["testbed.fixtures", "cluster.fixtures"]
