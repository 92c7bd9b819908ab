"""Metrics of tracking and of detection, and writers of result files."""
