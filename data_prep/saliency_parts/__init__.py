"""Parts of the locked box (section 3.2): masks, OpenCV, networks, training data."""
