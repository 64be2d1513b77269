"""Fixtures for all tests: a real control plane for those that ask for one."""

pytest_plugins = ["testbed.fixtures"]
