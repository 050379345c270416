"""What of the processor and the environment decides how products are computed."""

import pytest

from aftertune import processor
from aftertune.processor import kernel_settings, use_strict_products

INTEL, AMD = "GenuineIntel", "AuthenticAMD"


@pytest.mark.parametrize(
    ("vendor", "flags", "mode"),
    [
        (INTEL, "avx2 avx512f", "AVX512,STRICT"),
        (INTEL, "avx2", "AVX2,STRICT"),
        (INTEL, "avx2 avx512f avx512_bf16", None),  # it computes in bfloat16, which is not MKL's
        (INTEL, "avx2 avx512f amx_bf16", None),
        (INTEL, "sse4_2", None),
        (AMD, "avx2 avx512f", None),
    ],
)
def test_strict_products_are_asked_for_where_plain_ones_are_known_to_differ(monkeypatch, vendor, flags, mode):
    monkeypatch.setattr(processor, "_cpuinfo", lambda: {"vendor_id": vendor, "flags": flags})
    environment: dict[str, str] = {}
    use_strict_products(environment)
    assert environment.get("MKL_CBWR") == mode


def test_a_users_own_setting_stays(monkeypatch):
    monkeypatch.setattr(processor, "_cpuinfo", lambda: {"vendor_id": INTEL, "flags": "avx2"})
    environment = {"MKL_CBWR": "COMPATIBLE"}
    use_strict_products(environment)
    assert environment == {"MKL_CBWR": "COMPATIBLE"}


def test_without_a_description_of_the_processor_nothing_is_set(monkeypatch):
    monkeypatch.setattr(processor, "_cpuinfo", dict)
    environment: dict[str, str] = {}
    use_strict_products(environment)
    assert environment == {}


def test_settings_that_change_kernels_are_named_and_others_are_not(monkeypatch):
    before = kernel_settings()
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    monkeypatch.setenv("MKL_VERBOSE", "1")
    assert kernel_settings() == {**before, "MKL_CBWR": "AVX2,STRICT"}
