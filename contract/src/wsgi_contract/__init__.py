"""What sidecar, tuner and operator say to each other.

In: nothing. Out: frozen values and pure functions on them. Rule: only the standard library, no clock, no I/O.
"""

__version__ = "0.1.0"
