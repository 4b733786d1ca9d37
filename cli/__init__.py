"""The ``usds`` command: one thin module a command."""
