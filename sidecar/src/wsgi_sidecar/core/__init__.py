"""Pure steps of the sidecar: values in, values out; no clock, no I/O, no logger."""
