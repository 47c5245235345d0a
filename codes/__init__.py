"""Surrogates of coupled ODE systems: train, tune, select, use."""
