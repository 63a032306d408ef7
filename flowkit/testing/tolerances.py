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

QUADRATURE = 1e-2
"""2**18 points of Sobol's sequence in a box that is some ten standard deviations wide on either
axis: the error falls almost as 1/N for a smooth density, and was below 2e-3 for one that jumps, as
behind a leaky ReLU. What is looked for, a part that is reached twice or never, is larger."""
