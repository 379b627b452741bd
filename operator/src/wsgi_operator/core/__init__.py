"""Pure steps of the operator: values in, values out; no clock, no I/O, no logger, no client."""
