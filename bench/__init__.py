"""What a delivery costs: CPU of one dispatcher against a bare socket loop, in one run, in turn."""
