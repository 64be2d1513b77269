"""Thin asynchronous Kubernetes client: what the operator needs and nothing else, on one bounded connection pool.

Modules are imported by name: the command line names resource types without loading a client.
"""
