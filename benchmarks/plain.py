"""The four surrogates and their training as one writes them down first, to measure ours against.

Each network is one ``nn.Sequential``; MultiONet and FullyConnected see random (trajectory, time) rows, with both nets
evaluated for each; the latent models decode the initial state a second time and take derivatives by ``torch.gradient``,
which concatenates ends and middle; the neural ODE is integrated in float64 by torchode as its manual shows, without a
compiler. Weights are drawn as ours are, so that errors can be compared.
"""

import math
from typing import Any

import torch
import torchode
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import CosineAnnealingLR

from codes.data import PreparedData
from codes.schema import TrainConfig
from codes.surrogates import layers


def mlp(n_in: int, n_out: int, **shape: Any) -> nn.Sequential:
    """The same weights as ours in layers of PyTorch's own."""
    net = nn.Sequential(*layers.mlp(n_in, n_out, **shape))
    for index, layer in enumerate(net):
        if isinstance(layer, nn.Linear):
            net[index] = nn.Linear(layer.in_features, layer.out_features)
            net[index].load_state_dict(layer.state_dict())
    return net


class FullyConnected(nn.Module):
    """One network on rows [x0, t]."""

    def __init__(self, config: Any, n_quantities: int) -> None:
        super().__init__()
        self.net = mlp(
            n_quantities + 1,
            n_quantities,
            width=config.hidden_size,
            depth=config.num_hidden_layers,
            activation=config.activation,
        )

    def forward(self, x0: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x0, t], dim=1))


class MultiONet(nn.Module):
    """Scalar products of branch and trunk net, both evaluated for each row."""

    def __init__(self, config: Any, n_quantities: int) -> None:
        super().__init__()
        self.shape = (n_quantities, config.output_factor)
        n_out, width, activation = math.prod(self.shape), config.hidden_size, config.activation
        self.branch = mlp(n_quantities, n_out, width=width, depth=config.branch_hidden_layers, activation=activation)
        self.trunk = mlp(1, n_out, width=width, depth=config.trunk_hidden_layers, activation=activation)

    def forward(self, x0: Tensor, t: Tensor) -> Tensor:
        branch, trunk = self.branch(x0).unflatten(1, self.shape), self.trunk(t).unflatten(1, self.shape)
        return (branch * trunk).sum(-1) / math.sqrt(self.shape[1])


class Latent(nn.Module):
    """Encoder, a way through the latent space, decoder."""

    def __init__(self, config: Any, n_quantities: int) -> None:
        super().__init__()
        self.config = config
        shape = {"width": config.coder_width, "depth": config.coder_layers, "activation": config.activation}
        self.encoder = mlp(n_quantities, config.latent_features, **shape)
        self.decoder = mlp(config.latent_features, n_quantities, **shape)

    def evolve(self, z0: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x0: Tensor, t: Tensor) -> Tensor:
        return self.decoder(self.evolve(self.encoder(x0), t))

    def loss(self, x: Tensor, t: Tensor) -> Tensor:
        """The loss of ``codes.surrogates.latent``, for an even grid."""
        y, x0 = self(x[:, 0], t), x[:, 0]
        loss = mse_loss(y, x) + self.config.identity_weight * mse_loss(self.decoder(self.encoder(x0)), x0)
        for weight in (self.config.derivative_weight, self.config.curvature_weight):
            x, y = derivative(x, t), derivative(y, t)
            scale = (1 + x.square().mean()).sqrt()
            loss = loss + weight * mse_loss(y / scale, x / scale)
        return loss


def derivative(x: Tensor, t: Tensor) -> Tensor:
    """Central differences, one-sided at the ends."""
    return torch.gradient(x, spacing=float(t[1] - t[0]), dim=1)[0]


class LatentPoly(Latent):
    """Powers of time with coefficients that are linear in the initial latent state."""

    def __init__(self, config: Any, n_quantities: int) -> None:
        super().__init__(config, n_quantities)
        self.coefficients = nn.Linear(config.latent_features, config.degree * config.latent_features)

    def evolve(self, z0: Tensor, t: Tensor) -> Tensor:
        times = t.repeat(len(z0), 1)
        powers = torch.stack([times**k for k in range(1, self.config.degree + 1)], dim=2)
        coefficients = self.coefficients(z0).view(len(z0), self.config.degree, self.config.latent_features)
        return torch.bmm(powers, coefficients) + z0.unsqueeze(1)


class LatentNeuralODE(Latent):
    """An ODE in float64, whose step sizes are differentiated too, as by torchode's default."""

    def __init__(self, config: Any, n_quantities: int) -> None:
        super().__init__(config, n_quantities)
        n = config.latent_features
        self.network = mlp(n, n, width=config.ode_width, depth=config.ode_layers, activation=config.activation)
        self.scale = nn.Parameter(torch.tensor(10.0))
        term = torchode.ODETerm(lambda t, z: self.scale * torch.tanh(self.network(z)))
        control = torchode.IntegralController(atol=config.atol, rtol=config.rtol, term=term)
        self.solver = torchode.AutoDiffAdjoint(torchode.Tsit5(term=term), control)
        self.double()

    def evolve(self, z0: Tensor, t: Tensor) -> Tensor:
        return self.solver.solve(torchode.InitialValueProblem(y0=z0, t_eval=t.repeat(len(z0), 1))).ys


POINTWISE = {"FullyConnected": FullyConnected, "MultiONet": MultiONet}
LATENT = {"LatentPoly": LatentPoly, "LatentNeuralODE": LatentNeuralODE}


def warm_up() -> None:
    """A process's first backward pass and optimiser step, which import and set up."""
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()


def train(config: TrainConfig, data: PreparedData, device: str = "cpu") -> float:
    """LAE99 on the test split after ``trainer.epochs``, evaluated as often as ours are."""
    torch.manual_seed(config.seed)
    data = data.to(device)
    trainer, name, t = config.trainer, config.surrogate.name, data.t
    n, n_times, n_quantities = data.train.x.shape
    if name in POINTWISE:
        model: Any = POINTWISE[name](config.surrogate, n_quantities)
        x, x0 = data.train.x.view(-1, n_quantities), data.train.x[:, 0].repeat_interleave(n_times, 0)
        times = t.repeat(n).unsqueeze(1)
    else:
        model = LATENT[name](config.surrogate, n_quantities)
        dtype = next(model.parameters()).dtype
        x, t = data.train.x.to(dtype), t.to(dtype)
    model.to(device)
    rate = config.surrogate.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=config.surrogate.regularization_factor)
    steps = trainer.epochs * -(-len(x) // trainer.batch_size)
    schedule = CosineAnnealingLR(optimizer, steps, eta_min=rate * config.surrogate.eta_min)
    lae99 = math.nan
    for epoch in range(1, trainer.epochs + 1):
        for rows in torch.randperm(len(x)).split(trainer.batch_size):
            optimizer.zero_grad()
            loss = mse_loss(model(x0[rows], times[rows]), x[rows]) if name in POINTWISE else model.loss(x[rows], t)
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % trainer.evaluate_every == 0 or epoch == trainer.epochs:
            lae99 = evaluate(model, data, t)
    return lae99


@torch.no_grad()
def evaluate(model: nn.Module, data: PreparedData, t: Tensor) -> float:
    """LAE99, with the three other metrics computed and dropped."""
    x, transform = data.test.x, data.transform
    n, n_times, _ = x.shape
    if isinstance(model, Latent):
        predicted = model(x[:, 0].to(t.dtype), t).float()
    else:
        predicted = model(x[:, 0].repeat_interleave(n_times, 0), t.repeat(n).unsqueeze(1)).view(x.shape)
    lae = (predicted - x).abs() * transform.error_scale.to(x.device).float()
    physical = transform.inverse(predicted.double()) - transform.inverse(x.double())
    _ = lae.mean().item(), physical.abs().mean().item(), physical.square().mean().item()
    return torch.quantile(lae.flatten(), 0.99).item()
