"""The WSGIServer's spec as models: one file per part of it; `crd.py` makes the CustomResourceDefinition from them."""
