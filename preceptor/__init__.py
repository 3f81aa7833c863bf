"""Preceptor: a toolkit for knowledge distillation."""
