"""The Ultrasonographic Diagnostic Taxonomy: vocabulary, captions to labels, similarity priors, graphs."""
