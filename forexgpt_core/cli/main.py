"""Installed console script."""
