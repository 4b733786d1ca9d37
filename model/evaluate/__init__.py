"""Evaluation of a trained run: retrieval, zero-shot attributes, probes."""
