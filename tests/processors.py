"""On which processors results agree to the last digit with those that the pages show."""

import torch

from actlab.fleet.settings import processor_name

PAGES_SHOW = "the pages show the results of an AMD processor with AVX-512; the last digits of others differ"


def is_processor_of_pages():
    """Return whether products of matrices have the roundings of the machine that wrote the pages."""
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return has_avx512 and processor_name().startswith("AMD")
