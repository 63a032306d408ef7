"""Bridges to other libraries, each in the file named after it, which needs that library.

flowkit.interop.distributions    torch.distributions: any bijective transform as a layer, and a
                                 layer as a transform
flowkit.interop.normflows        a normflows layer as a layer, and a layer in a normflows model
flowkit.interop.zuko             a zuko transform as a layer
"""
