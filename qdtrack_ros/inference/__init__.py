"""From a picture to detections with embeddings, and on to tracks: preprocessing, engines, presets, the Python interface."""
