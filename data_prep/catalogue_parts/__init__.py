"""What `data_prep.catalogue` is made of: palette, garments, wording, views."""
