"""The embedded model's weights, its seed library, and the folder of uploaded seed images."""
