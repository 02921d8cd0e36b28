"""The fault campaign: everything that goes wrong between a purchase and its answer, on purpose."""
