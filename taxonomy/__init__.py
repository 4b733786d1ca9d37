"""The Ultrasonographic Diagnostic Taxonomy (UDT): vocabulary, captions to labels, similarity, graphs."""
