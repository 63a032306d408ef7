"""How far two sides of an equation may lie apart, and why."""

FLOAT64 = 1e-9
"""The two sides of a float64 equation differ by rounding, 2e-16, times the layer's conditioning.
The worst layer to be expected is a coupling at the floor of its scale, 1e-4, fed with 10: 2e-11."""

FLOAT32_LOGDET = 1e-4
"""The same in float32, 6e-8, for log-dets, which don't meet that conditioning: some 25 terms, each
behind a small net, 1e-5. Below the 4e-3 of a log-det that was rounded to bf16 on its way."""

FLOAT32_TYPICAL = 1e-4
"""What a float32 round trip costs the median element: 6e-8 times a conditioning of up to 1e3."""

BFLOAT16_NET = 5e-2
"""bf16 has 8 bits, so a net in bf16 whose input moves by float32 rounding may answer 4e-3
differently; divided by a scale of some 0.1 that is 4e-2."""

QUADRATURE = 2e-3
"""Trapezoids on some 400 points an axis over ±6.5σ: the rule's error is below 1e-4 for a smooth
density, below 1e-3 for one with a few kinks or jumps, each of which costs a share of one cell."""
