"""Probes: what is measured during training beside the loss, one file each."""
