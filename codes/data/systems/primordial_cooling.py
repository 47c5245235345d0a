"""Thermal energy that primordial gas radiates; optically thin, without a radiation field.

Atomic processes are those of J. H. Black (1981), MNRAS 197, 553, with the corrections of R. Cen (1992), ApJS 78, 341,
as tabulated by P. Anninos et al. (1997), New Astronomy 2, 209. Ionisation and dissociation take their energy reaction
by reaction, see ``Reaction.loss``. The heat of H2 formation is left out: below 1e4 particles per cm^3 it is radiated.
"""

from math import exp, log10, sqrt

from codes.data.systems.primordial_chemistry import series


def radiative_losses(t: float, densities: list[float]) -> float:
    """Cooling in erg cm^-3 s^-1 at temperature ``t`` in K for densities of ``SPECIES`` in cm^-3."""
    e, h, h_ion, _, h2, _, _, he_ion, he_nucleus = densities
    per_electron = (
        excitation_h(t) * h
        + (excitation_he(t) + ionisation_of_metastable_he(t)) * e * he_ion
        + (excitation_he_ion(t) + recombination_he(t)) * he_ion
        + recombination_h(t) * h_ion
        + recombination_he_nucleus(t) * he_nucleus
        + bremsstrahlung(t) * (h_ion + he_ion + 4 * he_nucleus)
    )
    return per_electron * e + h2_lines(t, h) * h2


def excitation_h(t: float) -> float:
    """H, all levels, erg cm^3 s^-1; Black 1981, Cen 1992."""
    return 7.5e-19 * exp(-118348 / t) * _saturation(t)


def excitation_he(t: float) -> float:
    """He 2^3S, metastable and made by recombination: times n_e^2 n_He+, erg cm^6 s^-1; Black 1981, Cen 1992."""
    return 9.1e-27 * t**-0.1687 * exp(-13179 / t) * _saturation(t)


def ionisation_of_metastable_he(t: float) -> float:
    """He 2^3S, times n_e^2 n_He+, erg cm^6 s^-1; Black 1981, Cen 1992."""
    return 5.01e-27 * t**-0.1687 * exp(-55338 / t) * _saturation(t)


def excitation_he_ion(t: float) -> float:
    """He+, n = 2, erg cm^3 s^-1; Black 1981, Cen 1992."""
    return 5.54e-17 * t**-0.397 * exp(-473638 / t) * _saturation(t)


def recombination_h(t: float) -> float:
    """H+, erg cm^3 s^-1; L. Spitzer (1978), Physical Processes in the Interstellar Medium; Black 1981, Cen 1992."""
    return 8.7e-27 * sqrt(t) * (t / 1e3) ** -0.2 / (1 + (t / 1e6) ** 0.7)


def recombination_he(t: float) -> float:
    """He+, radiative and dielectronic, erg cm^3 s^-1; Black 1981, Cen 1992."""
    dielectronic = 1.24e-13 * t**-1.5 * exp(-470000 / t) * (1 + 0.3 * exp(-94000 / t))
    return 1.55e-26 * t**0.3647 + dielectronic


def recombination_he_nucleus(t: float) -> float:
    """He++, erg cm^3 s^-1; Black 1981, Cen 1992: four times that of H+."""
    return 3.48e-26 * sqrt(t) * (t / 1e3) ** -0.2 / (1 + (t / 1e6) ** 0.7)


def bremsstrahlung(t: float) -> float:
    """Free-free emission per ion of charge 1, erg cm^3 s^-1; Black 1981, with a Gaunt factor of Spitzer & Hart 1979."""
    return 1.43e-27 * sqrt(t) * (1.1 + 0.34 * exp(-((5.5 - log10(t)) ** 2) / 3))


def h2_lines(t: float, h: float) -> float:
    """Rotation and vibration of H2, erg s^-1 per molecule at ``h`` hydrogen atoms per cm^3.

    Between the low-density limit of D. Galli & F. Palla (1998), A&A 335, 403, and local thermodynamic equilibrium, from
    D. Hollenbach & C. F. McKee (1979), ApJS 41, 555. The first is a fit from 13 to 1e5 K and stays at its ends.
    """
    t = min(max(t, 13.0), 1e5)
    thin = h * float(10 ** series((-103.0, 97.59, -48.05, 10.80, -0.9032), log10(t)))
    t3 = t / 1e3
    rotation = 9.5e-22 * t3**3.76 / (1 + 0.12 * t3**2.1) * exp(-((0.13 / t3) ** 3)) + 3e-24 * exp(-0.51 / t3)
    vibration = 6.7e-19 * exp(-5.86 / t3) + 1.6e-18 * exp(-11.7 / t3)
    equilibrium = rotation + vibration
    return equilibrium * thin / (equilibrium + thin)


def _saturation(t: float) -> float:
    """Cen's factor, which carries Black's fits beyond 1e5 K."""
    return 1 / (1 + sqrt(t / 1e5))
