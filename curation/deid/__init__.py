"""De-identification: keyed ids, harvested identifiers, prose, image area, burned-in text, verification."""
