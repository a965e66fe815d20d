"""EIE's nine layers and what was published about them: shapes and densities (EIE, ISCA 2016, Table III), microseconds
an input (Deep Compression, ICLR 2016, Table 8 = EIE, Table IV), and the densities of whole networks (Deep Compression,
Tables 2 to 5; DSD, Table 6; thesis). Also energies at 45 nm (Learning both Weights and Connections, Figure 1).
"""

from __future__ import annotations

LAYERS = {  # inputs, outputs, density of weights
    "AlexNet fc6": (9216, 4096, 0.09),
    "AlexNet fc7": (4096, 4096, 0.09),
    "AlexNet fc8": (4096, 1000, 0.25),
    "VGG-16 fc6": (25088, 4096, 0.04),
    "VGG-16 fc7": (4096, 4096, 0.04),
    "VGG-16 fc8": (4096, 1000, 0.23),
    "NeuralTalk We": (4096, 600, 0.10),
    "NeuralTalk Wd": (600, 8791, 0.11),
    "NeuralTalk LSTM": (1201, 2400, 0.10),
}

MICROSECONDS = {  # machine, batch -> dense and sparse, in the order of LAYERS
    ("Core i7-5930K", 1): (
        (7516.2, 6187.1, 1134.9, 35022.8, 5372.8, 774.2, 605.0, 1361.4, 470.5),
        (3066.5, 1282.1, 890.5, 3774.3, 545.1, 777.3, 261.2, 437.4, 260.0),
    ),
    ("Core i7-5930K", 64): (
        (318.4, 188.9, 45.8, 1056.0, 188.3, 45.7, 28.7, 69.0, 28.8),
        (1417.6, 682.1, 407.7, 1780.3, 274.9, 363.1, 117.7, 176.4, 107.4),
    ),
    ("Titan X", 1): (
        (541.5, 243.0, 80.5, 1467.8, 243.0, 80.5, 65.0, 90.1, 51.9),
        (134.8, 65.8, 54.6, 167.0, 39.8, 48.0, 17.7, 41.1, 18.5),
    ),
    ("Titan X", 64): (
        (19.8, 8.9, 5.9, 53.6, 8.9, 5.9, 3.2, 2.3, 2.5),
        (94.6, 51.5, 23.2, 121.5, 24.4, 22.0, 10.9, 11.0, 9.0),
    ),
    ("Tegra K1", 1): (
        (12437.2, 5765.0, 2252.1, 35427.0, 5544.3, 2243.1, 1316.0, 2565.5, 956.9),
        (2879.3, 1256.5, 837.0, 4377.2, 626.3, 745.1, 240.6, 570.6, 315.0),
    ),
    ("Tegra K1", 64): (
        (1663.6, 2056.8, 298.0, 2001.4, 2050.7, 483.9, 87.8, 956.3, 95.2),
        (4003.9, 1372.8, 576.7, 8024.8, 660.2, 544.1, 236.3, 187.7, 186.5),
    ),
}

EIE_MICROSECONDS = (30.3, 12.2, 9.9, 34.4, 8.7, 8.4, 8.0, 13.9, 7.5)  # the accelerator itself, measured in simulation

VGG16 = (0.58, 0.22, 0.34, 0.36, 0.53, 0.24, 0.42, 0.32, 0.27, 0.34, 0.35, 0.29, 0.36, 0.04, 0.04, 0.23)
DENSITY: dict[
    str, float | tuple[float, ...]
] = {  # by layer, in order; one number: that in every layer but a first convolution
    "LeNet-300-100": (0.08, 0.09, 0.26),
    "LeNet-5": (0.66, 0.12, 0.08, 0.19),
    "AlexNet": (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25),
    "VGG-16": VGG16,
    "ResNet-50": 0.30,
    "NeuralTalk": (0.10, 0.10, 0.11),
    "Deep Speech 1": 0.50,
}

PICOJOULE = {  # 45 nm, 32 bits
    "float add": 0.9,
    "float multiply": 3.7,
    "SRAM": 5.0,
    "DRAM": 640.0,
}


def speedup(machine: str, batch: int, layer: str) -> float:
    """Published dense time over published sparse time."""
    number = list(LAYERS).index(layer)
    dense, sparse = MICROSECONDS[machine, batch]
    return dense[number] / sparse[number]
