"""Curation: raw ultrasound exports to de-identified frames, captions, labels, splits and figures."""
