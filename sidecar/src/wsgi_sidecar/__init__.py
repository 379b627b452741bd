"""One process beside one WSGI server: sees it from outside, explains it, heals it."""

__version__ = "0.1.0"
