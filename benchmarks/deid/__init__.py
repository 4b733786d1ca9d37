"""A public benchmark for burned-in text in ultrasound: generated scenes with known text."""
