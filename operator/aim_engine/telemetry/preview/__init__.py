"""Draws dashboards without Grafana: the same queries, asked of Prometheus, as pictures. Reading is plain standard library;
only drawing needs matplotlib, the extra `preview`."""
