"""The command; filled in with the house."""

import sys


def main() -> int:
    """Run the command."""
    return 0


if __name__ == "__main__":
    sys.exit(main())
