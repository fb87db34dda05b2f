"""Networks trained on the concentric spheres, and what is measured on them."""
