"""A Kubernetes cluster with one real node: containerd, kubelet, kube-proxy and CoreDNS in namespaces of their own.

Start with :class:`cluster.real.RealCluster`; ``README.md`` beside this file shows the rest.
"""
