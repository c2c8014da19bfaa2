"""What is painted on a picture: heads, heat, zones, lettering."""
