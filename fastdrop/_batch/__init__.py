"""Masking of batches: functions that treat each row, sample or element by its own draws."""
