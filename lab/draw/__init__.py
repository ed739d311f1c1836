"""Figures: how they are made and saved, and what they show: curves, accuracies, gradients, baselines, maps."""
