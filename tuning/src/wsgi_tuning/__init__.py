"""Reports in, recommended settings with their reasons out. Pure; needs only the contract.

Still empty: settings are the user's until the tuner arrives (see ARCHITECTURE.md).
"""
