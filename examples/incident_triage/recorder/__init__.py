"""Runs the shop for real and writes down what its processes said."""
