"""Readers: bytes of any supported file to frames, header facts and raw captions."""
