"""Bundled taxonomies."""
