"""Datasets that others published, brought into the dataset directory as they were released."""
