"""The rules of the lint, a file for each of the things that they look at."""
