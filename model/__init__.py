"""Ultrasound-CLIP: network, losses, training and evaluation over a usds dataset."""
