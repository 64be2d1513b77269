"""The API `aim.engine.amd.com/v1alpha1`: the only source of the CRDs, of defaults and of `kubectl explain`."""
