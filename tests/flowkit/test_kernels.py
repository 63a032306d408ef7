"""The Triton kernels against the float64 reference, interpreted, or compiled if there is a GPU."""

import importlib
import os

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

from flowkit import (
    ActNorm,
    Affine,
    At,
    Chain,
    ConvNet,
    Coupling,
    Example,
    Injector,
    InvertibleLinear,
    Reversible,
    SoftplusScale,
)
from flowkit.ops import (
    ExpScale,
    SigmoidScale,
    affine_coupling,
    affine_coupling_choice,
    affine_coupling_inverse,
    implementation,
    linear_map,
    linear_map_choice,
)
from flowkit.testing.randomize import randomized

pytest.importorskip("triton", reason="triton isn't installed")

coupling_kernels = importlib.import_module("flowkit.ops.coupling.triton")
linear_kernels = importlib.import_module("flowkit.ops.linear.triton")

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
needs_gpu = pytest.mark.skipif(not CUDA, reason="needs a CUDA GPU")

# float32: some ten roundings of 6e-8, a few of tl.exp's 2 ulp, relative to the largest value.
# bf16 and fp16: one unit in the last place of a gradient, which the interpreter truncates.
ERROR = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}
SCALES = [SigmoidScale(), SigmoidScale(0.0, 0.1), ExpScale(1.5)]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that no kernel writes is NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield
    torch.use_deterministic_algorithms(False)


def draw(*shape, dtype=torch.float32, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    values = spread * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return values.to(DEVICE, dtype)


def results(op, tensors, weights, **options):
    """The outputs of `op`, and the gradients of their weighted sum."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    outputs = op(*leaves, **options)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((o * w.to(o)).sum() for o, w in zip(outputs, weights, strict=True))
    return [o.detach() for o in outputs], list(torch.autograd.grad(total, leaves))


def assert_near(came, exact, dtype):
    assert not came.isnan().any()
    error = (came.double() - exact).abs().max().item()
    largest = max(exact.abs().max().item(), 1.0)
    assert error <= ERROR[dtype] * largest, f"{error:.3g} of {largest:.3g}"


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("op", [affine_coupling, affine_coupling_inverse])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("channels", "changed", "places"),
    [
        (4, 2, (4, 4)),
        (5, 3, (3, 7)),
        (5, 1, (21,)),
        (3, 3, (5, 1)),
        (6, 2, ()),
        (2, 1, (2, 3, 4)),
        (12, 6, (40, 40)),
    ],
)
def test_coupling_is_the_reference(op, scale, dtype, channels, changed, places):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = draw(3, channels, *places, dtype=wide)
    # Raw scales far out as well: the sigmoid saturates to its floor, the exponential to its bound.
    params = draw(3, 2 * changed, *places, dtype=dtype, seed=1, spread=4.0)
    weights = draw(3, channels, *places, seed=2), draw(3, seed=3)
    outputs, grads = results(op, (x, params), weights, scale_map=scale, impl="triton")
    exact, exact_grads = results(
        op, (x.double(), params.double()), weights, scale_map=scale, impl="reference"
    )
    assert [o.dtype for o in outputs] == [wide, wide]
    assert [g.dtype for g in grads] == [wide, dtype]
    for came, expected in zip(outputs, exact, strict=True):
        assert_near(came, expected, wide)
    assert_near(grads[0], exact_grads[0], wide)
    assert_near(grads[1], exact_grads[1], dtype)


def test_coupling_of_more_than_one_block():
    # Under the interpreter a block is as large as what it has to do, up to 65,536 elements.
    x = draw(2, 2, 200, 400)
    params = draw(2, 2, 200, 400, seed=1)
    assert coupling_kernels._shapes(x, params, False, False, 2.0, 1e-4)[1][0] > 1
    weights = draw(2, 2, 200, 400, seed=2), draw(2, seed=3)
    outputs, grads = results(affine_coupling, (x, params), weights, impl="triton")
    exact, exact_grads = results(
        affine_coupling, (x.double(), params.double()), weights, impl="reference"
    )
    for came, expected in zip(outputs + grads, exact + exact_grads, strict=True):
        assert_near(came, expected, torch.float32)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("channels", "places"),
    [(1, (3, 3)), (5, (5, 7)), (12, (9, 31)), (17, (16,)), (70, (6, 9)), (6, ()), (3, (2, 3, 4))],
)
def test_linear_map_is_the_reference(channels, places, dtype, bias):
    tensors = [draw(2, channels, *places, dtype=dtype), draw(channels, channels, seed=1)]
    if bias:
        tensors.append(draw(channels, seed=2))
    tensors = [tensor.to(dtype) for tensor in tensors]
    if CUDA and dtype == torch.float64:
        assert "float64" in linear_kernels.unsupported(*tensors[:2], None)
        return
    weights = (draw(2, channels, *places, seed=3),)
    outputs, grads = results(linear_map, tensors, weights, impl="triton")
    exact, exact_grads = results(
        linear_map, [tensor.double() for tensor in tensors], weights, impl="reference"
    )
    for came, expected in zip(outputs + grads, exact + exact_grads, strict=True):
        assert came.dtype == dtype
        assert_near(came, expected, dtype)


@pytest.mark.parametrize(
    "rearranged",
    [
        lambda t: t.contiguous(memory_format=torch.channels_last),
        lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
        lambda t: torch.cat([t, t], dim=1)[:, : t.shape[1]],
    ],
    ids=["channels last", "transposed", "slice"],
)
def test_any_memory_layout_is_taken(rearranged):
    x, params = draw(2, 4, 3, 5), draw(2, 4, 3, 5, seed=1)
    weight = draw(4, 4, seed=2)
    assert not rearranged(x).is_contiguous()
    for plain, moved in (
        (
            affine_coupling(x, params, impl="triton")[0],
            affine_coupling(rearranged(x), rearranged(params), impl="triton")[0],
        ),
        (
            linear_map(x, weight, impl="triton"),
            linear_map(rearranged(x), weight.t().contiguous().t(), impl="triton"),
        ),
    ):
        assert torch.equal(plain, moved)


@pytest.mark.skipif(CUDA, reason="the linear kernel takes float64 in the interpreter only")
def test_registered_gradients():
    x, params = (
        draw(*shape, dtype=torch.float64, seed=1).requires_grad_()
        for shape in ((2, 3, 1, 2), (2, 4, 1, 2))
    )
    for op in (affine_coupling, affine_coupling_inverse):
        for scale in SCALES:
            assert torch.autograd.gradcheck(lambda *t: op(*t, scale, impl="triton"), (x, params))  # noqa: B023
    tensors = [
        draw(*shape, dtype=torch.float64).requires_grad_() for shape in ((2, 2, 1, 2), (2, 2), (2,))
    ]
    assert torch.autograd.gradcheck(lambda *t: linear_map(*t, impl="triton"), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: linear_map(*t, impl="triton"), tensors)


def test_second_gradient_of_a_coupling_is_refused():
    x, params = draw(1, 2, 2, 2).requires_grad_(), draw(1, 2, 2, 2, seed=1).requires_grad_()
    y, _ = affine_coupling(x, params, impl="triton")
    (grad,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="impl='reference' can be differentiated twice"):
        grad.sum().backward()


@pytest.mark.parametrize("inverse", [False, True])
def test_opcheck_coupling(inverse):
    x, params = draw(2, 5, 3, 4).requires_grad_(), draw(2, 4, 3, 4, seed=1).requires_grad_()
    constants = inverse, False, 2.0, 1e-4
    torch.library.opcheck(torch.ops.flowkit.affine_coupling.default, (x, params, *constants))
    grads = draw(2, 5, 3, 4, seed=2), draw(2, seed=3)
    torch.library.opcheck(
        torch.ops.flowkit.affine_coupling_backward.default,
        (*grads, x.detach(), params.detach(), *constants),
    )


def test_opcheck_linear_map():
    x, weight, bias = (draw(*shape).requires_grad_() for shape in ((2, 5, 3, 4), (5, 5), (5,)))
    torch.library.opcheck(torch.ops.flowkit.linear_map.default, (x, weight, bias))
    torch.library.opcheck(torch.ops.flowkit.linear_map.default, (x, weight, None))
    torch.library.opcheck(torch.ops.flowkit.linear_map_weight_gradient.default, (x, x))


def flow():
    build = lambda: Chain(  # noqa: E731
        ActNorm(4),
        InvertibleLinear(4),
        At(
            "half",
            Chain(
                Injector(4, ConvNet, cond_channels=2),
                Coupling(4, ConvNet, Affine(SigmoidScale()), cond_channels=2),
            ),
        ),
    )
    shapes = (4, 6, 5), {"half": (2, 6, 5)}
    chain = randomized(Example(build, *shapes), seed=0)
    return chain.to(DEVICE), draw(2, 4, 6, 5), {"half": draw(2, 2, 6, 5, seed=1)}


@pytest.mark.parametrize("wrap", [lambda chain: chain, Reversible], ids=["stored", "reversible"])
def test_a_whole_flow(wrap):
    chain, x, cond = flow()
    found = {}
    for name in ("reference", "triton"):
        chain.zero_grad()
        with implementation(name):
            y, logdet = wrap(chain)(x, cond)
            (y.square().sum() + logdet.sum()).backward()
            back, negative = chain.inverse(y.detach(), cond)
        grads = [parameter.grad.clone() for parameter in chain.parameters()]
        found[name] = [y.detach(), logdet.detach(), negative.detach(), *grads]
        # Through four layers and back, each with an error of some 1e-6.
        torch.testing.assert_close(back, x, rtol=0, atol=1e-4)
    for came, expected in zip(*found.values(), strict=True):
        largest = expected.abs().max().item()
        torch.testing.assert_close(came, expected, rtol=0, atol=2e-5 * max(1, largest))


def test_compiles_as_one_graph():
    chain, x, cond = flow()
    torch.compiler.reset()
    with implementation("triton"):
        expected = chain(x, cond)
        compiled = torch.compile(chain, fullgraph=True, backend="aot_eager")
        for came, wanted in zip(compiled(x, cond), expected, strict=True):
            torch.testing.assert_close(came, wanted, rtol=1e-5, atol=1e-5)
        compiled(x, cond)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in chain.parameters())


def test_one_or_two_graphs_for_every_size():
    chain, _, _ = flow()
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(chain, fullgraph=True, backend=counter, dynamic=True)
    with implementation("triton"):
        for batch, height, width in ((3, 6, 5), (5, 4, 8), (6, 7, 7), (7, 9, 3)):
            x = draw(batch, 4, height, width)
            cond = {"half": draw(batch, 2, height, width, seed=1)}
            for came, wanted in zip(compiled(x, cond), chain(x, cond), strict=True):
                torch.testing.assert_close(came, wanted, rtol=1e-5, atol=1e-5)
    assert counter.frame_count <= 2
    torch.compiler.reset()


def test_nets_in_bf16_under_autocast():
    chain, x, cond = flow()
    with implementation("triton"), torch.autocast(DEVICE, torch.bfloat16):
        y, logdet = chain(x, cond)
        (y.sum() + logdet.sum()).backward()
    assert y.dtype == logdet.dtype == torch.float32
    exact, exact_logdet = chain(x, cond)
    # A net's output is rounded to 2⁻⁸, and so are its inner values.
    torch.testing.assert_close(y, exact, rtol=0.1, atol=0.1)
    torch.testing.assert_close(logdet, exact_logdet, rtol=0.1, atol=1.0)


def test_results_repeat_bit_for_bit():
    x, params, weight = draw(2, 4, 30, 30), draw(2, 4, 30, 30, seed=1), draw(4, 4)
    weights = draw(2, 4, 30, 30, seed=2), draw(2, seed=3)
    for op, tensors, w in (
        (affine_coupling, (x, params), weights),
        (linear_map, (x, weight), weights[:1]),
    ):
        first, second = (results(op, tensors, w, impl="triton") for _ in range(2))
        for a, b in zip((*first[0], *first[1]), (*second[0], *second[1]), strict=True):
            assert torch.equal(a, b)


def test_what_the_kernels_refuse():
    class Own(SigmoidScale):
        pass

    def squashed(raw):
        return raw.tanh().exp(), raw.tanh()

    x, params = draw(2, 4, 3, 3), draw(2, 4, 3, 3)
    cases = [
        (affine_coupling_choice, (x, params, Own()), "the scale Own is unknown"),
        (affine_coupling_choice, (x, params, squashed), "the scale squashed is unknown"),
        (affine_coupling_choice, (x, params, SoftplusScale()), "SoftplusScale is unknown"),
        (affine_coupling_choice, (x[:0], params[:0]), r"\(0, 4, 3, 3\) is empty"),
        (affine_coupling_choice, (x, params.to("meta")), "params on meta"),
        (affine_coupling_choice, (x, params.to(torch.float8_e5m2)), "params are .*float8"),
        (linear_map_choice, (x[:0], draw(4, 4)), r"\(0, 4, 3, 3\) is empty"),
        (linear_map_choice, (x, draw(4, 4).to("meta")), "weight on meta"),
    ]
    for choice, tensors, reason in cases:
        with pytest.raises(
            ValueError, match=rf"expected tensors for impl='triton', but .*{reason}"
        ):
            choice(*tensors, impl="triton")
        assert choice(*tensors, impl="auto").name == "reference"
    layer = Coupling(4, ConvNet, Affine(SoftplusScale())).to(DEVICE)
    with (
        implementation("triton"),
        pytest.raises(ValueError, match="impl='triton', but the scale SoftplusScale is unknown"),
    ):
        layer(x)
    many = torch.empty(1, device=DEVICE).expand(65536, 2, 1, 1)
    assert "65536 samples" in coupling_kernels.unsupported(many, many, SigmoidScale())
    assert "65536 samples" in linear_kernels.unsupported(many, draw(2, 2), None)
    wide = torch.empty(1, device=DEVICE).expand(1, 2, 2**15, 2**15)
    assert "2³¹ elements" in coupling_kernels.unsupported(wide, wide, SigmoidScale())
    assert "2³¹ elements" in linear_kernels.unsupported(wide, draw(2, 2), None)


def test_the_interpreter_has_to_be_asked_for(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x = torch.rand(1, 2, 3, 3)
    with pytest.raises(ValueError, match="impl='triton', but the kernels are for CUDA"):
        affine_coupling(x, x, impl="triton")


def test_asking_by_name(monkeypatch):
    x = draw(1, 2, 3, 3)
    monkeypatch.setenv("FLOWKIT_IMPL", "triton")
    assert affine_coupling_choice(x, x).name == "triton"
    assert affine_coupling_choice(x, x, impl="reference").name == "reference"
    with implementation("reference"):
        assert affine_coupling_choice(x, x).name == "reference"
        with implementation("triton"):
            assert affine_coupling_choice(x, x).name == "triton"
        assert affine_coupling_choice(x, x).name == "reference"
    assert affine_coupling_choice(x, x).name == "triton"
    monkeypatch.setenv("FLOWKIT_IMPL", "cuda")
    with pytest.raises(ValueError, match=r"FLOWKIT_IMPL: expected .*triton.*, got 'cuda'"):
        affine_coupling(x, x)
    with pytest.raises(ValueError, match=r"affine_coupling: expected .*, got 'fast'"):
        affine_coupling(x, x, impl="fast")
    with (
        pytest.raises(ValueError, match=r"implementation: expected .*, got ''"),
        implementation(""),
    ):
        pass


def test_transforms_go_elsewhere():
    x, params, weight = draw(2, 2, 3, 3), draw(2, 2, 3, 3, seed=1), draw(2, 2)

    def both(x, **options):
        return (
            affine_coupling(linear_map(x, weight, **options), params, **options)[0].square().sum()
        )

    for transformed in (
        lambda **options: torch.func.grad(lambda x: both(x, **options))(x),
        lambda **options: torch.func.jvp(lambda x: both(x, **options), (x,), (x,))[1],
    ):
        with pytest.raises(ValueError, match=r"impl='triton', but the kernels know no torch\.func"):
            transformed(impl="triton")
        torch.testing.assert_close(transformed(), transformed(impl="reference"))


@pytest.fixture
def cuda(monkeypatch):
    """Tensors that say they are on a GPU which Triton can use."""
    module = importlib.import_module("flowkit.choice")
    with FakeTensorMode():
        x = torch.empty(2, 12, 8, 8, device="cuda:0")
        monkeypatch.setattr(module, "_OBSTRUCTED", {0: None})
        yield x
        monkeypatch.setattr(module, "_OBSTRUCTED", {0: "triton can't start: no compiler"})
        assert affine_coupling_choice(x, x).reason == "triton can't start: no compiler"
        with pytest.raises(ValueError, match="impl='triton', but triton can't start"):
            affine_coupling(x, x, impl="triton")


def test_auto_on_cuda(cuda):
    def squashed(raw):
        return raw.tanh().exp(), raw.tanh()

    def linear(*shape):
        return linear_map_choice(cuda.new_empty(shape), cuda.new_empty(shape[1], shape[1]))

    for scale in (ExpScale(), SigmoidScale()):
        assert affine_coupling_choice(cuda, cuda, scale).name == "triton"
    for scale in (SoftplusScale(), squashed):
        choice = affine_coupling_choice(cuda, cuda, scale)
        assert (choice.name, "unknown to the kernel" in choice.reason) == ("reference", True)
    assert affine_coupling(cuda, cuda)[1].shape == (2,)
    assert linear(2, 12, 8, 8).name == linear(2, 48, 9).name == "triton"
    assert linear(2, 192, 8, 8).reason == "more than 64 channels are left to cuBLAS"
    assert linear(2, 12).reason == "vectors are one matrix product, which is left to cuBLAS"


def test_where_tf32_is_allowed_the_reference_is_refused(cuda):
    x, weight = cuda.new_empty(2, 192, 8, 8), cuda.new_empty(192, 192)
    torch.set_float32_matmul_precision("high")
    try:
        assert linear_map_choice(x, weight).name == "triton"
        with pytest.raises(ValueError, match=r"full precision for the reference.*got TF32 allowed"):
            linear_map(x, weight, impl="reference")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert linear_map(x, weight, impl="reference").shape == x.shape


@needs_gpu
def test_auto_on_a_gpu():
    x = draw(1, 12, 8, 8)
    assert affine_coupling_choice(x, x).name == "triton"
    assert linear_map_choice(x, draw(12, 12)).name == "triton"
    many = draw(1, 192, 8, 8)
    assert linear_map_choice(many, draw(192, 192)).name == "reference"
    torch.set_float32_matmul_precision("high")
    try:
        assert linear_map_choice(many, draw(192, 192)).name == "triton"
        with pytest.raises(ValueError, match="got TF32 allowed, which is too coarse"):
            linear_map(many, draw(192, 192), impl="reference")
    finally:
        torch.set_float32_matmul_precision("highest")


@needs_gpu
@pytest.mark.parametrize("channels", [12, 48, 192])
def test_as_exact_as_the_reference_on_the_gpu(channels):
    x, weight = draw(2, channels, 40, 40), draw(channels, channels, seed=1)
    exact = linear_map(x.double(), weight.double(), impl="reference")
    errors = [(linear_map(x, weight, impl=i) - exact).abs().max() for i in ("triton", "reference")]
    assert errors[0] <= 2 * errors[1] + 1e-6


def training_step(chain, optimizer, x, cond):
    optimizer.zero_grad(set_to_none=False)
    y, logdet = chain(x, cond)
    (y.square().sum() - logdet.sum()).backward()
    optimizer.step()


@needs_gpu
def test_neither_a_training_step_nor_decoding_waits_for_the_gpu():
    chain, x, cond = flow()
    optimizer = torch.optim.Adam(chain.parameters(), fused=True)
    training_step(chain, optimizer, x, cond)
    folded = chain.fold()
    folded.inverse(x, cond)
    torch.cuda.set_sync_debug_mode("error")
    try:
        training_step(chain, optimizer, x, cond)
        folded.inverse(x, cond)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
def test_a_training_step_in_a_cuda_graph():
    chain, x, cond = flow()
    optimizer = torch.optim.Adam(chain.parameters(), capturable=True)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            training_step(chain, optimizer, x, cond)
    torch.cuda.current_stream().wait_stream(stream)
    before = [parameter.detach().clone() for parameter in chain.parameters()]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training_step(chain, optimizer, x, cond)
    graph.replay()
    torch.cuda.synchronize()
    assert all(p.isfinite().all() for p in chain.parameters())
    assert any(not torch.equal(p, b) for p, b in zip(chain.parameters(), before, strict=True))


def test_interpreter_is_on_where_there_is_no_gpu():
    assert CUDA or os.environ["TRITON_INTERPRET"] == "1"
