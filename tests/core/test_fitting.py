"""The learning loop: it finds minima, repeats, resumes, stops, and says where it diverged."""

import pytest
import torch

from steerlib.core.fitting import Plan, fit

TARGET = torch.tensor([1.0, -2.0, 0.5])
X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = X @ TARGET


def problem(start=0.0):
    """Least squares with one parameter; its loss and its parameters."""
    w = torch.full((3,), start, requires_grad=True)

    def loss(rows, step):
        return ((X[rows] @ w - Y[rows]) ** 2).mean()

    return {"w": w}, loss


def test_it_finds_the_minimum_and_the_loss_falls():
    parameters, loss = problem()
    history = fit(parameters, loss, 40, Plan(epochs=60, batch_size=8, lr=0.1))
    assert torch.allclose(parameters["w"], TARGET, atol=0.02)
    assert history.losses[-1] < 1e-2 < history.losses[0]
    assert len(history.losses) == 60 * 5


def test_the_same_seed_repeats_and_another_does_not():
    def run(seed):
        parameters, loss = problem()
        fit(parameters, loss, 40, Plan(epochs=2, batch_size=7, seed=seed))
        return parameters["w"].detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_each_epoch_sees_every_example_once_in_its_own_order():
    seen = []
    parameters, loss = problem()

    def spied(rows, step):
        seen.append(rows)
        return loss(rows, step)

    fit(parameters, spied, 10, Plan(epochs=2, batch_size=4))
    first, second = ([row for rows in part for row in rows] for part in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_the_learning_rate_falls_linearly_to_zero():
    # With a constant gradient each step of Adam is the learning rate.
    w = torch.zeros(1, requires_grad=True)
    track = []
    plan = Plan(epochs=1, batch_size=1, lr=0.4, clip=None)
    fit({"w": w}, lambda rows, step: w.sum(), 4, plan, after_step=lambda: track.append(w.item()))
    steps = -torch.diff(torch.tensor([0.0, *track]))
    assert torch.allclose(steps, torch.tensor([0.4, 0.3, 0.2, 0.1]), atol=1e-5)


@pytest.mark.parametrize("after", [1, 2])
def test_a_stopped_fit_goes_on_as_if_it_had_not_been_stopped(tmp_path, after):
    plan = Plan(epochs=4, batch_size=6, lr=0.05)

    def noisy(loss, limit=None):
        calls = []

        def drawn(rows, step):
            calls.append(1)
            if limit is not None and len(calls) > limit:
                raise KeyboardInterrupt
            return loss(rows, step) * (1 + torch.rand((), generator=step.random))

        return drawn

    whole, loss = problem()
    expected = fit(whole, noisy(loss), 40, plan)
    parts, loss = problem()
    path = tmp_path / "fit.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(parts, noisy(loss, limit=7 * after + 3), 40, plan, checkpoint=path)
    again, loss = problem(start=9.0)
    found = fit(again, noisy(loss), 40, plan, checkpoint=path)
    assert torch.equal(whole["w"], again["w"])
    assert found == expected
    assert [p.name for p in tmp_path.iterdir()] == ["fit.safetensors"]


def test_a_finished_fit_is_not_computed_again(tmp_path):
    path, plan = tmp_path / "fit.safetensors", Plan(epochs=1)
    parameters, loss = problem()
    first = fit(parameters, loss, 40, plan, checkpoint=path)
    again, _ = problem()

    def never(rows, step):
        raise AssertionError("computed again")

    assert fit(again, never, 40, plan, checkpoint=path) == first
    assert torch.equal(parameters["w"], again["w"])


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    path = tmp_path / "fit.safetensors"
    parameters, loss = problem()
    fit(parameters, loss, 40, Plan(epochs=1), checkpoint=path)
    with pytest.raises(ValueError, match="belongs to another fit"):
        fit(parameters, loss, 40, Plan(epochs=1, lr=0.5), checkpoint=path)


def test_a_checkpoint_of_other_examples_is_refused(tmp_path):
    path = tmp_path / "fit.safetensors"
    parameters, loss = problem()
    fit(parameters, loss, 40, Plan(epochs=1), checkpoint=path, about="weather")
    with pytest.raises(ValueError, match="belongs to another fit"):
        fit(parameters, loss, 40, Plan(epochs=1), checkpoint=path, about="music")


def test_divergence_names_the_step():
    w = torch.ones(1, requires_grad=True)
    values = iter([1.0, 1.0, float("nan")])
    with pytest.raises(FloatingPointError, match="the loss of test is nan at step 2"):
        fit({"w": w}, lambda rows, step: w.sum() * next(values), 9, Plan(batch_size=1), name="test")


def test_a_parameter_that_explodes_is_named():
    w = torch.ones(1, requires_grad=True)

    def explode():
        w.fill_(float("inf"))

    with pytest.raises(FloatingPointError, match=r"parameter 'w' .* at step 0"):
        fit({"w": w}, lambda rows, step: w.sum(), 4, Plan(), after_step=explode)


def test_early_stop_waits_as_long_as_it_was_told():
    parameters, loss = problem()
    values = iter([3.0, 2.0, 2.5, 2.0, 1.0, 1.0])
    history = fit(parameters, loss, 6, Plan(epochs=6, patience=2), validate=lambda: next(values))
    assert history.validation == (3.0, 2.0, 2.5, 2.0)
    assert history.stopped


def test_gradients_can_be_projected_before_the_step():
    w = torch.tensor([1.0, 1.0], requires_grad=True)

    def only_first():
        w.grad[1] = 0.0

    fit({"w": w}, lambda rows, step: w.sum(), 8, Plan(), before_step=only_first)
    assert w[1] == 1.0
    assert w[0] < 1.0


def test_a_gradient_is_clipped():
    w = torch.ones(2, requires_grad=True)
    norms = []
    plan = Plan(clip=0.5, batch_size=1)
    fit({"w": w}, lambda rows, step: 100 * w.sum(), 2, plan,
        before_step=lambda: norms.append(w.grad.norm().item()))  # fmt: skip
    assert all(norm == pytest.approx(0.5, rel=1e-4) for norm in norms)


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", 0), ("batch_size", -1), ("lr", 0.0), ("clip", 0.0)]
)
def test_plans_are_checked(field, value):
    with pytest.raises(ValueError, match=f"{field} is positive, got"):
        Plan(**{field: value})


def test_no_examples_and_frozen_parameters_are_refused():
    parameters, loss = problem()
    with pytest.raises(ValueError, match="n=0"):
        fit(parameters, loss, 0, Plan())
    with pytest.raises(ValueError, match="'w'"):
        fit({"w": torch.ones(1)}, loss, 4, Plan())


def test_a_step_knows_its_number_and_how_many_there_are():
    parameters, loss = problem()
    seen = []

    def spied(rows, step):
        seen.append((step.number, step.total))
        return loss(rows, step)

    fit(parameters, spied, 5, Plan(epochs=2, batch_size=2))
    assert seen == [(n, 6) for n in range(6)]
