"""What both houses must know of each server: its flags, its releases, its precedence of settings."""
