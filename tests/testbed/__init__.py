"""A real Kubernetes control plane on loopback, with simulated nodes, kubelets and inference engines.

Start with :class:`testbed.plane.ControlPlane`; ``README.md`` beside this file shows the rest.
"""
