"""The corpus on disk: docs/format.md in code. Needs numpy and nothing heavier."""
