"""Tensor mathematics: torch, numpy and scipy only."""
