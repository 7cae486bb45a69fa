"""Rollout engines: prompts in, sampled tokens out."""
