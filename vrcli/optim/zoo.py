"""The optimizers of the package pytorch-optimizer, by name. Data only: the package is imported when one is used.

Source:      pytorch-optimizer 4.1 (the optional extra `zoo`); which of them run, and with what, was found by running
             each on a small network, and a slow test does it again.
Deviations:  names that torch or this package has too mean those: the zoo's adam, adamw, sgd, rmsprop, nadam, radam,
             adamax, adadelta, adafactor, asgd, lbfgs, muon and lamb are reached as "pytorch_optimizer:AdaFactor" and so
             on. The zoo's Lamb is not the published one: it corrects the bias after the trust ratio, so that its first
             step is ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrcli.optim.rows import GENERIC_SPACE, OWN_RANGE, Row, lr_space

PACKAGE = "pytorch_optimizer"
#: How to get it.
INSTALL = "pip install 'vrcli[zoo]'"
ORIGIN = "pytorch-optimizer"
ADAPTERS = "vrcli.optim.zoo_adapters"

#: name: (class, one line)
_PLAIN: Mapping[str, tuple[str, str]] = {
    "a2grad": ("A2Grad", "accelerated SGD with a step size from averaged gradient deviations"),
    "accsgd": ("AccSGD", "SGD that couples a short and a long step"),
    "adabelief": ("AdaBelief", "Adam whose second moment is that of the gradient's deviation from its mean"),
    "adabound": ("AdaBound", "Adam with rates clipped to bounds that close in on SGD's"),
    "adagc": ("AdaGC", "Adam with gradients clipped per tensor against their running norm"),
    "adai": ("Adai", "adaptive momentum per parameter instead of an adaptive rate"),
    "adalite": ("Adalite", "factored second moments with trust ratios"),
    "adamc": ("AdamC", "AdamW with weight decay corrected on normalised layers"),
    "adamod": ("AdaMod", "Adam with rates bounded by their own running mean"),
    "adamp": ("AdamP", "Adam without the update's radial part on scale-invariant weights"),
    "adams": ("AdamS", "Adam with stable weight decay"),
    "adamwsn": ("AdamWSN", "AdamW with one second moment per subset of a tensor"),
    "adan": ("Adan", "Adam with Nesterov momentum from gradient differences"),
    "adanorm": ("AdaNorm", "Adam with the gradient's norm corrected by its history"),
    "adapnm": ("AdaPNM", "Adam with positive-negative momentum"),
    "adashift": ("AdaShift", "Adam whose second moment comes from older gradients"),
    "adasmooth": ("AdaSmooth", "adaptive rates from an effective ratio of progress to movement"),
    "adatam": ("AdaTAM", "Adam damped where gradient and momentum disagree"),
    "ademamix": ("AdEMAMix", "Adam with a fast and a very slow momentum"),
    "adopt": ("ADOPT", "Adam that normalises with the previous step's second moment"),
    "aggmo": ("AggMo", "the mean of several momenta with different decay rates"),
    "aida": ("Aida", "AdaBelief with mutual projections of gradient and momentum"),
    "alice": ("Alice", "low-rank Fisher approximation with compensation for the rest"),
    "amos": ("Amos", "adaptive rates and decay from the scale expected of the weights"),
    "ano": ("Ano", "direction from the momentum's sign, size from the gradient"),
    "apollo": ("APOLLO", "AdamW with rates from a low-rank projection of the gradient"),
    "apollodqn": ("ApolloDQN", "diagonal quasi-Newton steps"),
    "avagrad": ("AvaGrad", "Adam with a preconditioner one step behind"),
    "bcos": ("BCOS", "step sizes of blocks that minimise the distance to the optimum"),
    "came": ("CAME", "Adafactor guided by a confidence in the update"),
    "conda": ("Conda", "Adam in a column basis taken from the momentum"),
    "dash": ("DASH", "Shampoo in batched blocks with iterative inverse roots"),
    "diffgrad": ("DiffGrad", "Adam slowed where the gradient changes little"),
    "dualadam": ("DualAdam", "Adam joined with a decaying inverse Adam"),
    "exadam": ("EXAdam", "Adam with corrections across its two moments"),
    "fadam": ("FAdam", "Adam as natural gradient with a diagonal Fisher matrix"),
    "fira": ("Fira", "low-rank AdamW with the remainder of the gradient scaled in"),
    "flashadamw": ("FlashAdamW", "AdamW with 8-bit state"),
    "focus": ("FOCUS", "sign steps pulled towards the running mean of the weights"),
    "fromage": ("Fromage", "steps proportional to the norm of the weights"),
    "ftrl": ("FTRL", "follow the regularised leader, with L1 and L2 penalties"),
    "galore": ("GaLore", "AdamW on a low-rank projection of the gradient"),
    "grams": ("Grams", "the gradient's sign with the momentum's size"),
    "gravity": ("Gravity", "steps from a mechanical analogy of rolling balls"),
    "grokfastadamw": ("GrokFastAdamW", "AdamW on gradients with their slow part amplified"),
    "kate": ("Kate", "AdaGrad without the root, invariant to scaling of the data"),
    "kron": ("Kron", "Kronecker-factored preconditioned SGD"),
    "laprop": ("LaProp", "momentum of normalised gradients"),
    "lars": ("LARS", "SGD with a trust ratio per tensor"),
    "lion": ("Lion", "the sign of an interpolated momentum"),
    "madgrad": ("MADGRAD", "dual averaging with adaptive rates and momentum"),
    "mars": ("MARS", "AdamW on variance-reduced gradients"),
    "msvag": ("MSVAG", "momentum damped by the gradient's variance"),
    "nero": ("Nero", "rates and constraints per neuron"),
    "novograd": ("NovoGrad", "Adam with one second moment per layer"),
    "padam": ("PAdam", "Adam with a smaller exponent on the second moment"),
    "pid": ("PID", "SGD as a proportional-integral-derivative controller"),
    "pnm": ("PNM", "SGD with positive-negative momentum"),
    "qhadam": ("QHAdam", "Adam with quasi-hyperbolic averages"),
    "qhm": ("QHM", "SGD with quasi-hyperbolic momentum"),
    "racs": ("RACS", "SGD scaled by rows and columns"),
    "ranger": ("Ranger", "RAdam with look-ahead and centred gradients"),
    "rose": ("ROSE", "steps scaled by the range of rows and columns"),
    "sara": ("SaRA", "AdamW on the smallest weights only"),
    "scalableshampoo": ("ScalableShampoo", "Shampoo in blocks with grafted step sizes"),
    "scion": ("SCION", "steps to the edge of a norm ball"),
    "scionlight": ("SCIONLight", "Scion with its momentum kept in the gradients"),
    "sgdp": ("SGDP", "SGD without the update's radial part on scale-invariant weights"),
    "sgdsai": ("SGDSaI", "SGD with rates set once from the first gradients' signal-to-noise ratio"),
    "sgdw": ("SGDW", "SGD with decoupled weight decay"),
    "shampoo": ("Shampoo", "preconditioning of every dimension of a tensor"),
    "signsgd": ("SignSGD", "the sign of the momentum"),
    "simplifiedademamix": ("SimplifiedAdEMAMix", "AdEMAMix with one momentum, mixed with the gradient"),
    "sm3": ("SM3", "AdaGrad with one accumulator per row and column"),
    "soap": ("SOAP", "Adam in the eigenbasis of Shampoo's preconditioner"),
    "spam": ("SPAM", "Adam with clipped spikes and momentum resets"),
    "srmm": ("SRMM", "regularised majorisation with averaged iterates"),
    "stableadamw": ("StableAdamW", "AdamW with clipped updates and compensated sums"),
    "stablespam": ("StableSPAM", "SPAM with adaptive clipping and scaling"),
    "swats": ("SWATS", "Adam that switches to SGD by itself"),
    "tam": ("TAM", "SGD damped where gradient and momentum disagree"),
    "tiger": ("Tiger", "Lion with a single decay rate"),
    "vsgd": ("VSGD", "SGD on gradients estimated by variational inference"),
    "yogi": ("Yogi", "Adam whose second moment grows and shrinks additively"),
    # need a closure
    "emofact": ("EmoFact", "factored adaptive rates driven by the course of the loss"),
    "emolynx": ("EmoLynx", "sign steps driven by the course of the loss"),
    "emonavi": ("EmoNavi", "adaptive rates driven by the course of the loss"),
    # need gradients of gradients
    "adahessian": ("AdaHessian", "Adam with the Hessian's diagonal as second moment"),
    "sophiah": ("SophiaH", "momentum over the Hessian's diagonal, clipped"),
    # two sets of weights
    "schedulefreeadamw": ("ScheduleFreeAdamW", "AdamW that averages its weights instead of lowering its rate"),
    "schedulefreeradam": ("ScheduleFreeRAdam", "RAdam that averages its weights instead of lowering its rate"),
    "schedulefreesgd": ("ScheduleFreeSGD", "SGD that averages its weights instead of lowering its rate"),
    "splus": ("SPlus", "whitened matrix steps with averaged weights"),
    # find their own rate
    "adamg": ("AdamG", "Adam with a rate from the path so far"),
    "dadaptadagrad": ("DAdaptAdaGrad", "AdaGrad that estimates the distance to the solution"),
    "dadaptadam": ("DAdaptAdam", "Adam that estimates the distance to the solution"),
    "dadaptadan": ("DAdaptAdan", "Adan that estimates the distance to the solution"),
    "dadaptlion": ("DAdaptLion", "Lion that estimates the distance to the solution"),
    "dadaptsgd": ("DAdaptSGD", "SGD that estimates the distance to the solution"),
    "prodigy": ("Prodigy", "Adam that estimates the distance to the solution, faster"),
    # matrices and vectors apart
    "adago": ("AdaGO", "Muon with AdaGrad's step size"),
    "adamuon": ("AdaMuon", "Muon with a second moment"),
    "muonclip": ("MuonClip", "Muon with clipped query and key weights"),
    "normuon": ("NorMuon", "Muon with rows normalised"),
    # the model itself
    "adammini": ("AdamMini", "Adam with one second moment per block of parameters"),
    # told the run's number of steps
    "ranger21": ("Ranger21", "AdamW with a collection of refinements and its own schedule"),
    # not runnable
    "bsam": ("BSAM", "Bayesian sharpness-aware minimisation"),
    "lorarite": ("LoRARite", "preconditioning for the two factors of a low-rank adapter"),
    "adalomo": ("AdaLOMO", "Adafactor within the backward pass"),
    "alig": ("AliG", "Polyak steps with a largest rate"),
    "demo": ("DeMo", "SGD that exchanges compressed momentum between processes"),
    "distributedmuon": ("DistributedMuon", "Muon over several processes"),
    "lomo": ("LOMO", "SGD within the backward pass"),
    "magma": ("Magma", "masks another optimizer's updates by their alignment"),
    "spectralsphere": ("SpectralSphere", "matrix steps on the sphere of the spectral norm"),
}

#: Sharpness-aware methods, whose zoo classes expect a gradient that the engine's closure has yet to compute.
_SHARPNESS_AWARE: Mapping[str, tuple[str, str]] = {
    "sam": ("SAM", "sharpness-aware minimisation with AdamW: the gradient at the worst point nearby"),
    "friendlysam": ("FriendlySAM", "SAM that perturbs along the batch's noise only, with AdamW"),
    "looksam": ("LookSAM", "SAM that computes its perturbation every k steps, with AdamW"),
}

_CAPABILITIES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("emofact", "emolynx", "emonavi"), frozenset({"closure"})),
    **dict.fromkeys(("adahessian", "sophiah"), frozenset({"create_graph"})),
    **dict.fromkeys(("adashift", "conda", "scalableshampoo"), frozenset({"no_resume"})),
    **dict.fromkeys(("schedulefreeadamw", "schedulefreeradam", "schedulefreesgd", "splus"), frozenset({"train_eval"})),
    **dict.fromkeys(
        ("adamg", "dadaptadagrad", "dadaptadam", "dadaptadan", "dadaptlion", "dadaptsgd", "prodigy"),
        frozenset({"lr_free"}),
    ),
}

_REFUSALS: Mapping[str, str] = {
    "adalomo": "it updates within the backward pass, which needs a training loop of its own",
    "a2grad": "it has no learning rate that a schedule could drive",
    "alig": "it has no learning rate that a schedule could drive",
    "bsam": "it leaves its noise in the weights, which drift even at a learning rate of 0",
    "demo": "it exchanges momentum between processes, and runs here have one",
    "distributedmuon": "it shares its work between processes, and runs here have one (muon is the same method)",
    "lomo": "it updates within the backward pass, which needs a training loop of its own",
    "lorarite": "it takes pairs of low-rank adapter factors, and no task's model has any",
    "magma": "it wraps another optimizer, which cannot be named as a setting",
    "spectralsphere": "it takes matrices only, and no task's model has nothing else",
}

_SPLIT = dict.fromkeys(("adago", "adamuon", "muonclip", "normuon"), "vrcli.optim.muon:split_parameters")

_STEPS_SETTING = {"ranger21": "num_iterations"}

#: Where the zoo's default would not train.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "adammini": {"lr": 1e-3},
    "lars": {"lr": 1.0},
    "shampoo": {"lr": 0.1},
}

#: The range of lr of those whose lr has another scale than AdamW's.
_OWN_LR: Mapping[str, tuple[float, float]] = {
    "adago": (1e-3, 1.0),
    "adahessian": (1e-3, 1.0),
    "adatam": (1e-5, 1e-2),
    "avagrad": (1e-3, 1.0),
    "kate": (1e-5, 1e-2),
    "lars": (1e-2, 10.0),
    "padam": (1e-3, 1.0),
    "schedulefreesgd": (1e-2, 10.0),
    "shampoo": (1e-3, 1.0),
    "sm3": (1e-3, 1.0),
    "sophiah": (1e-3, 1.0),
    "splus": (1e-3, 1.0),
}

_TWO_RATES = "lr is that of hidden matrices and filters; vectors, embeddings and the output layer have adamw_lr"
_SLOW_START = "its rate begins near zero: the loss stays for the first 20 steps or more; a larger d0 begins sooner"
_NOTES: Mapping[str, str] = {
    **dict.fromkeys(("adago", "adamuon", "muonclip", "normuon"), _TWO_RATES),
    **dict.fromkeys(("dadaptadagrad", "dadaptlion", "dadaptsgd"), _SLOW_START),
    "adahessian": "lr multiplies a gradient divided by the curvature: 0.1 trains where AdamW takes 0.01",
    "dadaptadan": "at its defaults the rate grows without a bound and the run may diverge: try growth_rate 1.02",
    "kate": "its first step on a weight is lr / gradient: 0.003 already raises the loss of cnn's smoke preset tenfold",
    "lars": "a step has the length lr x trust_coefficient (0.001) x the tensor's norm: lr 1 is a small step",
    "sara": "changes only weights whose size is below threshold (0.001) at the start, so the loss falls slowly",
    "shampoo": "its preconditioners sum all past gradients and shrink the steps: the zoo's lr, 0.001, is too small",
    "sophiah": "clips every entry of a step to lr x p (0.01), 0.0006 at its defaults: a small lr hardly moves",
}


def _row(name: str, target: str, summary: str) -> Row:
    capabilities = _CAPABILITIES.get(name, frozenset())
    if "lr_free" in capabilities:
        space = lr_space(0.1, 10, OWN_RANGE)
    else:
        space = lr_space(*_OWN_LR[name], OWN_RANGE) if name in _OWN_LR else GENERIC_SPACE
    return Row(
        name,
        target,
        summary,
        ORIGIN,
        space=space,
        capabilities=capabilities,
        defaults=_DEFAULTS.get(name, {}),
        groups=_SPLIT.get(name, ""),
        takes_model=name == "adammini",
        steps_setting=_STEPS_SETTING.get(name, ""),
        own_lr=name in _OWN_LR,
        note=_NOTES.get(name, ""),
        refusal=_REFUSALS.get(name, ""),
    )


ZOO_ROWS = (
    *(_row(name, f"{PACKAGE}:{cls}", summary) for name, (cls, summary) in _PLAIN.items()),
    *(
        Row(name, f"{ADAPTERS}:{cls}", summary, ORIGIN, space=GENERIC_SPACE, capabilities=frozenset({"closure"}))
        for name, (cls, summary) in _SHARPNESS_AWARE.items()
    ),
)
