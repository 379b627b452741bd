"""One process in the cluster: WSGIServer resources and Reports in, settings and healthy pods out."""

__version__ = "0.1.0"
