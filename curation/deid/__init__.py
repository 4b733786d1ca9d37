"""De-identification: keyed identity, harvested identifiers, prose, image area, burned-in text, verification."""
