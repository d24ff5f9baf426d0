"""Products by oneDNN are those of torch, where they are meant to be and nowhere else."""

import itertools
import platform
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional

from ner_lightning import products
from ner_lightning.products import OneDNNProducts, mkl_is_slow, onednn_products

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.mark.parametrize(("slow", "wanted", "autocast"), [*itertools.product([True, False], repeat=3)])
def test_the_context_is_left_where_it_has_nothing_to_do(monkeypatch, slow, wanted, autocast):
    monkeypatch.setattr(products, "mkl_is_slow", lambda: slow)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        context = onednn_products(wanted=wanted)
    assert isinstance(context, OneDNNProducts) == (slow and wanted and not autocast)


@pytest.mark.parametrize("shape", [(7, 33), (2, 5, 33), (1, 0, 33)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_that_of_double_precision_to_rounding(shape, bias):
    torch.manual_seed(0)
    layer, inputs = torch.nn.Linear(33, 9, bias=bias), torch.randn(shape)
    with torch.inference_mode(), OneDNNProducts():
        product = layer(inputs)
        named = functional.linear(input=inputs, weight=layer.weight, bias=layer.bias)
    assert torch.equal(product, named)
    torch.testing.assert_close(product, layer.double()(inputs.double()).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_as_they_are(dtype):
    layer, inputs = torch.nn.Linear(33, 9, dtype=dtype), torch.randn(7, 33, dtype=dtype)
    with OneDNNProducts():
        product = layer(inputs)
    assert torch.equal(product, layer(inputs))


def test_mixed_precision_around_it_holds():
    layer, inputs = torch.nn.Linear(33, 9), torch.randn(7, 33)
    with torch.autocast("cpu", dtype=torch.bfloat16), OneDNNProducts():
        assert layer(inputs).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(7, 33), (2, 5, 33)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", ["input", "weight", None])
def test_gradients_are_those_of_double_precision_to_rounding(shape, bias, frozen):
    torch.manual_seed(0)
    layer = nn.Linear(33, 9, bias=bias)
    layer.weight.requires_grad_(frozen != "weight")
    inputs = torch.randn(shape, requires_grad=frozen != "input")
    exact_layer = nn.Linear(33, 9, bias=bias, dtype=torch.float64)
    exact_layer.load_state_dict(layer.state_dict())
    exact_inputs = inputs.detach().double().requires_grad_()
    with OneDNNProducts():
        layer(inputs).square().sum().backward()
    exact_layer(exact_inputs).square().sum().backward()
    for one, exact in ((inputs, exact_inputs), *zip(layer.parameters(), exact_layer.parameters(), strict=True)):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, exact.grad.float(), rtol=1e-5, atol=1e-5)
        else:
            assert one.grad is None


def test_gradients_of_gradients_are_those_of_torch():
    def penalty(context):
        torch.manual_seed(0)
        layer, inputs = nn.Linear(33, 9), torch.randn(7, 33, requires_grad=True)
        with context:
            (gradient,) = torch.autograd.grad(layer(inputs).square().sum(), inputs, create_graph=True)
            gradient.square().sum().backward()
        return layer.weight.grad

    torch.testing.assert_close(penalty(OneDNNProducts()), penalty(nullcontext()), rtol=1e-4, atol=1e-4)


def test_a_product_may_be_changed_in_place():
    layer, inputs = nn.Linear(33, 9), torch.randn(2, 5, 33)
    with OneDNNProducts():
        product = layer(inputs)
    product /= 3
    product.square().sum().backward()
    found, layer.weight.grad = layer.weight.grad, None
    (layer(inputs) / 3).square().sum().backward()
    torch.testing.assert_close(found, layer.weight.grad)


def test_a_weight_of_one_dimension_is_left_to_torch():
    inputs, weight = torch.randn(7, 33), torch.randn(33)
    with OneDNNProducts():
        assert torch.equal(functional.linear(inputs, weight), inputs @ weight)


def test_a_gradient_that_is_one_number_for_all_is_taken():
    layer, inputs = nn.Linear(33, 9), torch.randn(7, 33)
    with OneDNNProducts():
        layer(inputs).sum().backward()
    torch.testing.assert_close(layer.weight.grad, inputs.sum(0).expand(9, 33))


@pytest.mark.parametrize(
    ("vendor", "capability", "slow"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
def test_mkl_is_slow_on_what_it_has_no_avx512_for(monkeypatch, vendor, capability, slow):
    monkeypatch.setattr(products.Path, "is_file", lambda _: False)
    monkeypatch.setattr(platform, "processor", lambda: f"Family 25, {vendor}")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert mkl_is_slow.__wrapped__() is slow


def test_without_mkl_nothing_is_replaced(monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not mkl_is_slow.__wrapped__()
