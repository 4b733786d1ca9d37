"""The contracts every floor shares: tables, dataset directory, private state, errors."""
