"""One parcel of primordial gas at constant density: nine species of hydrogen and helium, and the temperature."""

import numpy as np

from codes.data.systems.base import Array, System, log_uniform
from codes.data.systems.primordial_chemistry import REACTIONS, SPECIES
from codes.data.systems.primordial_cooling import radiative_losses

K_BOLTZMANN = 1.380649e-16  # erg K^-1
ERG_PER_EV = 1.602176634e-12
SECONDS_PER_YEAR = 3.15576e7
HELIUM = 0.24 / (4 * 0.76)  # nuclei per hydrogen nucleus, 24 % of the mass
COLDEST = 1.0  # K; no trajectory comes near, but a step that is then rejected may

INDEX = {name: i for i, name in enumerate(SPECIES)}
COLLISIONS = [(r.rate, INDEX[r.reactants[0]], INDEX[r.reactants[1]]) for r in REACTIONS]
STOICHIOMETRY = np.array(
    [[r.products.count(name) - r.reactants.count(name) for r in REACTIONS] for name in SPECIES], dtype=np.float64
)
LOSSES = ERG_PER_EV * np.array([r.loss for r in REACTIONS])


def rhs(state: Array, parameters: Array | None = None) -> list[float]:
    """n_s' = sum_r S_sr k_r(T) n_a n_b and (3/2 n k_B T)' = -Lambda, that is T' = -(2 Lambda / (3 k_B) + T n') / n.

    Per year, in cm^-3 and K. Lambda is radiation and the energy that ionisation and dissociation take, n the density of
    all particles. Each has three degrees of freedom, as less than 1 % are H2.
    """
    densities = state.tolist()
    t = max(densities.pop(), COLDEST)
    rates = np.array([rate(t) * densities[a] * densities[b] for rate, a, b in COLLISIONS])
    change = (STOICHIOMETRY @ rates).tolist()
    cooling = radiative_losses(t, densities) + float(LOSSES @ rates)
    heating = -(2 * cooling / (3 * K_BOLTZMANN) + t * sum(change)) / sum(densities)
    return [SECONDS_PER_YEAR * derivative for derivative in (*change, heating)]


def draw(generator: np.random.Generator, n: int) -> tuple[Array, None]:
    """Neutral gas, all log-uniform: 1 to 1e4 hydrogen nuclei per cm^3, temperature 100 to 1e5 K, and fractions.

    Of hydrogen nuclei: H+ 1e-4 to 0.99, H- and H2+ 1e-14 to 1e-9; of those not ionised, in H2 1e-8 to 1e-2. Of helium
    nuclei: not neutral 1e-6 to 0.9, of these He++ 1e-6 to 0.9.
    """

    def fraction(low: float, high: float) -> Array:
        return log_uniform(generator, low, high, n)

    hydrogen, temperature = fraction(1.0, 1e4), fraction(100.0, 1e5)
    h_ion = hydrogen * fraction(1e-4, 0.99)
    h_anion, h2_ion = hydrogen * fraction(1e-14, 1e-9), hydrogen * fraction(1e-14, 1e-9)
    h2 = (hydrogen - h_ion) * fraction(1e-8, 1e-2) / 2
    h = hydrogen - h_ion - h_anion - 2 * (h2 + h2_ion)
    helium = HELIUM * hydrogen
    he_ions = helium * fraction(1e-6, 0.9)
    he_nucleus = he_ions * fraction(1e-6, 0.9)
    he_ion = he_ions - he_nucleus
    electrons = h_ion + h2_ion + he_ion + 2 * he_nucleus - h_anion
    densities = (electrons, h, h_ion, h_anion, h2, h2_ion, helium - he_ions, he_ion, he_nucleus)
    return np.stack([*densities, temperature], axis=1), None


PRIMORDIAL_ONEZONE = System(
    name="primordial_onezone",
    labels=(*(f"{name} [cm^-3]" for name in SPECIES), "T [K]"),
    timesteps=np.logspace(-2, 4, 101),
    rhs=rhs,
    draw=draw,
    rtol=1e-8,
    atol=(*(1e-22 for _ in SPECIES), 1e-8),
)
