"""Who does the work: processes here, or Ray's across machines."""
