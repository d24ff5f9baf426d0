"""Products by oneDNN are those of torch, where they are meant to be and nowhere else."""

import pytest
import torch
from torch.nn import functional

from ner_lightning.products import OneDNNProducts


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


def test_a_gradient_is_that_of_torch():
    layer, inputs = torch.nn.Linear(33, 9), torch.randn(7, 33)
    with OneDNNProducts():
        layer(inputs).sum().backward()
    torch.testing.assert_close(layer.weight.grad, inputs.sum(0).expand(9, 33))
