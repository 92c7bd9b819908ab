"""From a picture to detections with embeddings, and on to tracks: input, engines, presets, the Python interface."""
