"""One file per kind of incident, each a pure rule of the same shape: see `rule`."""
