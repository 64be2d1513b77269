"""Observe, decide, render, apply, report: one keyed pass per AIMDeployment, driven by a cache and a work queue."""
