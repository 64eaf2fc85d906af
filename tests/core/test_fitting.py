"""The learning loop: it finds minima, repeats, resumes, stops, and says where it diverged."""

import pytest
import torch
from sklearn.linear_model import Lasso

from steerlib.core.fitting import Plan, fit
from steerlib.core.proximal import shrink_groups

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


# --- schedules


def peer(kind, warmup, total, lr):
    """The learning rates of the schedule of transformers, step by step."""
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    make = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}
    schedule, found = make[kind](optimizer, warmup, total), []
    for _ in range(total):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 24, 30])
@pytest.mark.parametrize("schedule_epochs", [None, 5, 8])
def test_rates_are_those_of_transformers(kind, warmup, schedule_epochs):
    plan = Plan(5, 4, 0.3, schedule=kind, warmup=warmup, schedule_epochs=schedule_epochs)
    total = 5 * (schedule_epochs or 5)
    found = [plan.rate(step, 5) for step in range(total)]
    assert found == pytest.approx(peer(kind, warmup, total, 0.3), rel=1e-12, abs=1e-15)


def test_each_step_of_a_fit_has_the_rate_of_its_plan():
    # With a constant gradient each step of Adam is the learning rate.
    w, track = torch.zeros(1, requires_grad=True), []
    plan = Plan(2, 3, 0.4, clip=None, schedule="cosine", warmup=3, schedule_epochs=4)
    fit({"w": w}, lambda rows, step: w.sum(), 10, plan, after_step=lambda: track.append(w.item()))
    steps = -torch.diff(torch.tensor([0.0, *track]))
    expected = torch.tensor(peer("cosine", 3, 16, 0.4)[:8])
    assert torch.allclose(steps, expected, atol=1e-5)
    assert steps[0] == 0  # the warm-up begins at 0
    assert steps[3] == pytest.approx(0.4, abs=1e-5)


def test_the_paper_of_bipo_stops_a_schedule_of_100_epochs_near_its_peak():
    # 642 pairs in batches of 4 are 161 steps an epoch.
    long = Plan(20, 4, 5e-4, schedule="cosine", warmup=100, schedule_epochs=100)
    short = Plan(20, 4, 5e-4, schedule="cosine", warmup=100)
    assert long.rate(20 * 161, 161) / 5e-4 == pytest.approx(0.909, abs=5e-4)
    assert short.rate(20 * 161 - 1, 161) / 5e-4 < 1e-5


def test_the_default_is_still_linear_to_the_bit():
    plan = Plan(epochs=3, lr=0.7)
    assert [plan.rate(step, 7) for step in range(21)] == [0.7 * (1 - n / 21) for n in range(21)]


SLOWLY = {"batch_size": 8, "lr": 0.2, "schedule": "cosine", "warmup": 4}


def test_an_early_stop_is_the_beginning_of_the_long_run():
    whole, loss = problem()
    track = []
    long = Plan(epochs=6, **SLOWLY)
    expected = fit(whole, loss, 40, long, after_step=lambda: track.append(whole["w"].clone()))
    for epochs in (1, 2, 6):
        part, loss = problem()
        found = fit(part, loss, 40, Plan(epochs=epochs, **SLOWLY, schedule_epochs=6))
        assert torch.equal(part["w"].detach(), track[5 * epochs - 1].detach())
        assert found.losses == expected.losses[: 5 * epochs]
    decayed, loss = problem()
    fit(decayed, loss, 40, Plan(epochs=2, **SLOWLY))
    assert not torch.allclose(decayed["w"].detach(), track[9].detach(), atol=1e-3)


def test_an_early_stop_goes_on_from_its_checkpoint(tmp_path):
    path, plan = tmp_path / "fit.safetensors", Plan(epochs=3, **SLOWLY, schedule_epochs=6)
    whole, loss = problem()
    fit(whole, loss, 40, plan)
    part, loss = problem()

    def stopping(rows, step):
        if step.number == 7:  # in the second of three epochs
            raise KeyboardInterrupt
        return loss(rows, step)

    with pytest.raises(KeyboardInterrupt):
        fit(part, stopping, 40, plan, checkpoint=path)
    again, loss = problem(start=9.0)
    fit(again, loss, 40, plan, checkpoint=path)
    assert torch.equal(again["w"], whole["w"])
    for other in ({"schedule_epochs": 7}, {"warmup": 5}, {"schedule": "linear"}):
        changed = Plan(epochs=3, **{**SLOWLY, "schedule_epochs": 6, **other})
        with pytest.raises(ValueError, match="belongs to another fit"):
            fit(again, loss, 40, changed, checkpoint=path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "constant"}, "the schedule is one of .* got 'constant' and 0"),
        ({"warmup": -1}, "warmup at least 0, got 'linear' and -1"),
        ({"schedule_epochs": 0}, "schedule_epochs is positive, got 0"),
        ({"epochs": 5, "schedule_epochs": 4}, "of 4 epochs ends before the run of 5"),
    ],
)
def test_bad_schedules_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Plan(**fields)


# --- proximal steps

SLOW = Plan(epochs=300, batch_size=40, lr=0.1, clip=None)


def lasso(penalty, plan=SLOW, d=6, checkpoint=None, loss_of=None, start=0.0):
    """Least squares with a sum of |w|, by proximal steps: w, its data, and the history."""
    random = torch.Generator().manual_seed(3)
    X = torch.randn(40, d, generator=random)
    y = X @ torch.tensor([2.0, -1.0, 0.0, 0.0, 0.3, 0.0]) + 0.1 * torch.randn(40, generator=random)
    w = torch.full((d, 1), start, requires_grad=True)

    def loss(rows, step):
        value = ((X[rows] @ w[:, 0] - y[rows]) ** 2).mean() / 2
        return value if loss_of is None else loss_of(value, step)

    def prox(value, step):
        return shrink_groups(value, step, penalty)

    history = fit({"w": w}, loss, 40, plan, prox=prox, checkpoint=checkpoint)
    return w[:, 0].detach(), X, y, history


@pytest.mark.parametrize("penalty", [0.05, 0.2, 0.8])
def test_proximal_steps_end_at_the_minimum_with_its_penalty(penalty):
    w, X, y, _ = lasso(penalty)
    known = Lasso(alpha=penalty, fit_intercept=False, tol=1e-10)
    exact = torch.tensor(known.fit(X.double().numpy(), y.double().numpy()).coef_).float()
    assert torch.allclose(w, exact, atol=2e-3)
    assert torch.equal(w == 0, exact == 0)  # exactly zero, not nearly
    assert 1 <= (w == 0).sum() < 6
    slope = X.T @ (X @ w - y) / 40
    assert (slope[w == 0].abs() <= penalty).all()
    assert torch.allclose(slope[w != 0], -penalty * w[w != 0].sign(), atol=2e-3)


def test_from_a_penalty_on_everything_is_zero():
    _, X, y, _ = lasso(0.1, Plan(epochs=1, clip=None))
    most = (X.T @ y / 40).abs().max().item()
    assert not lasso(1.01 * most, start=0.5)[0].any()
    assert lasso(0.99 * most)[0].any()


def test_a_minimum_does_not_move():
    minimum, X, y, _ = lasso(0.2)
    w = minimum.clone()[:, None].requires_grad_()

    def loss(rows, step):
        return ((X @ w[:, 0] - y) ** 2).mean() / 2

    def prox(value, step):
        return shrink_groups(value, step, 0.2)

    fit({"w": w}, loss, 40, Plan(epochs=20, batch_size=40, lr=1e-3, clip=None), prox=prox)
    assert torch.allclose(w[:, 0], minimum, atol=2e-3)
    assert torch.equal(w[:, 0] == 0, minimum == 0)


def test_whole_rows_become_zero():
    target = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, -1.0]])
    rows = torch.zeros(3, 2, requires_grad=True)

    def loss(numbers, step):
        return (rows - target).square().sum() / 2

    plan = Plan(epochs=400, batch_size=1, lr=0.1, clip=None)
    fit({"rows": rows}, loss, 1, plan, prox=lambda v, s: shrink_groups(v, s, 0.5))
    # argmin ||x - z||^2 / 2 + ||x|| / 2: each row is shorter by 1/2.
    expected = torch.tensor([[2.7, 3.6], [0.0, 0.0], [0.0, -0.5]])
    assert torch.allclose(rows, expected, atol=1e-2)
    assert torch.equal(rows[1], torch.zeros(2))


def test_a_proximal_step_needs_gradients_as_they_are():
    parameters, loss = problem()
    with pytest.raises(ValueError, match=r"needs clip=None and weight_decay=0, got clip=1\.0"):
        fit(parameters, loss, 40, Plan(), prox=lambda value, step: value)
    assert not parameters["w"].any()


def test_a_proximal_step_sees_the_parameter_after_the_step_and_the_step_sizes_of_adam():
    a, b = torch.zeros(2, requires_grad=True), torch.ones(1, 3, requires_grad=True)
    slopes = {2: torch.tensor([0.5, -3.0]), 3: torch.tensor([[1e-4, 0.0, 2.0]])}
    seen, factors = {2: [], 3: []}, [1.0, -2.0, 0.5, 4.0]

    def loss(rows, step):
        factor = factors[step.number]
        return factor * ((a * slopes[2]).sum() + (b * slopes[3]).sum())

    def prox(value, step):
        seen[value.numel()].append((value.clone(), step.clone()))
        return value + 7.0

    plan = Plan(epochs=1, batch_size=1, lr=0.4, clip=None)
    fit({"a": a, "b": b}, loss, 4, plan, prox=prox)
    assert torch.allclose(a.detach() - 7.0, seen[2][-1][0])
    for size, start in ((2, torch.zeros(2)), (3, torch.ones(1, 3))):
        m = v = torch.zeros_like(start)
        value = start
        for number, factor in enumerate(factors):
            g, t = factor * slopes[size], number + 1
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            step = 0.4 * (1 - number / 4) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            found, sizes = seen[size][number]
            assert torch.allclose(sizes, step, rtol=1e-4)
            value = value - step * m / (1 - 0.9**t)
            assert torch.allclose(found, value, rtol=1e-4, atol=1e-5)
            value = value + 7.0
    # Where the slope was always 0, the step size is lr / eps.
    assert seen[3][0][1][0, 1] == pytest.approx(0.4 / 1e-8)


def test_a_proximal_step_comes_after_a_projection():
    w = torch.ones(1, 1, requires_grad=True)

    def project():
        w.fill_(5.0)

    plan, seen = Plan(epochs=1, clip=None), []
    fit({"w": w}, lambda rows, step: w.sum(), 1, plan, after_step=project,
        prox=lambda value, step: seen.append(value.item()) or value / 2)  # fmt: skip
    assert (seen, w.item()) == ([5.0], 2.5)


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_fit_with_proximal_steps_goes_on_as_if_it_had_not_been(tmp_path, after):
    plan, path = Plan(epochs=6, batch_size=7, lr=0.2, clip=None), tmp_path / "fit.safetensors"

    def noisy(value, step):
        return value * (1 + torch.rand((), generator=step.random))

    def stopping(value, step):
        if step.number == 6 * after + 2:
            raise KeyboardInterrupt
        return noisy(value, step)

    whole, _, _, expected = lasso(0.2, plan, loss_of=noisy)
    with pytest.raises(KeyboardInterrupt):
        lasso(0.2, plan, loss_of=stopping, checkpoint=path)
    found, _, _, history = lasso(0.2, plan, loss_of=noisy, checkpoint=path, start=9.0)
    assert torch.equal(found, whole)
    assert history == expected
    assert (whole == 0).any()


def test_a_parameter_without_a_gradient_stays_at_zero():
    w = torch.zeros(2, 3, requires_grad=True)

    def loss(rows, step):
        return w[0].sum() * 3.0

    plan = Plan(epochs=2, batch_size=2, lr=0.05, clip=None)
    fit({"w": w}, loss, 4, plan, prox=lambda value, step: shrink_groups(value, step, 0.05))
    assert w[0].all()
    assert torch.equal(w[1], torch.zeros(3))
