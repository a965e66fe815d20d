"""Reducing training time (the digest's section; PROTOCOLS 1.7): pruning early, and sparse from the first update, on CIFAR-10.

The same arms on MNIST, 30 seeds, are in experiments/mnist.py. The cost of each plan is in both reports.
"""

from dsd.results.study import Arm, Claim, Row, Study
from experiments.table7 import COMMON, ERROR, ONLY_DENSE, TEST

TITLE = "Reducing training time: pruned early, and sparse from the first update"

CIFAR = Study(
    name="cifar",
    title="ResNet-20 on CIFAR-10, 4 paired seeds",
    question="May the dense phase be short, or left out? Same number of updates, half of the weights removed.",
    source=(
        'Digest, "Reducing training time" (PROTOCOLS 1.7): AlexNet sparse from scratch, two runs: one diverged after 80,000 iterations, the '
        "other ended at 33.0 % top-1 and 41.6 % top-5 right, two numbers that do not go together. That pruning before "
        "convergence can be done is said without numbers."
    ),
    words=(*COMMON, "profiles.cpu.dense=8"),
    arms=(
        Arm("baseline", ("method=baseline",), without=ONLY_DENSE),
        Arm("dense", ("method=dense",), "dense, base schedule throughout"),
        Arm("dsd", ("method=dsd", "baseline_seed=${seed}"), "DSD, 50 %"),
        Arm("finetune", ("method=finetune", "baseline_seed=${seed}"), "direct fine-tuning"),
        Arm("early_prune", ("method=early_prune",), "pruned after 2 epochs, sparse to the end"),
        Arm("sparse_scratch", ("method=sparse_scratch",), "sparse from scratch"),
    ),
    seeds=tuple(range(8, 12)),
    metrics=(ERROR, TEST),
    rows=(
        Row("Baseline, 8 epochs", "baseline"),
        Row("Dense, base schedule throughout", "dense"),
        Row("DSD, first half (sparse)", "dsd", 0),
        Row("DSD", "dsd", 1),
        Row("Direct fine-tuning", "finetune"),
        Row("Pruned after 2 epochs, sparse to the end", "early_prune"),
        Row("Sparse from scratch", "sparse_scratch"),
    ),
    claims=(
        Claim("Pruned early is better than sparse from scratch: the short dense phase matters", "early_prune", "sparse_scratch", "paired t"),
        Claim("Dense throughout is better than pruned early", "dense", "early_prune", "paired t"),
        Claim("Dense throughout is better than sparse from scratch", "dense", "sparse_scratch", "paired t"),
        Claim("DSD is better than pruned early", "dsd", "early_prune", "paired t"),
    ),
    sweeps=("python run.py -cd sweeps -cn table7_paired 'seed=range(8,12)'", "python run.py -cd sweeps -cn training_time"),
    margin=0.3,
    notes=(
        "The 5,000 images held out of the training set took no part in any choice; the weights measured are the final ones.",
        "Every arm but the baseline makes the same number of updates (14 epochs). The masks hold 50 % of the weights at 0 and are chosen "
        "once: from the initial weights, after 2 epochs, or after 8. Seeds 8 to 11 are Table 7's, whose runs were made on the same machine.",
        "Seconds: dense with seeds 9 and 11, and sparse from scratch with seed 8, were stopped for up to half an hour while other things were "
        "measured, and count that, and from scratch with seeds 9 and 11 something else ran beside them; undisturbed, dense took 737 and 745 s, "
        "early pruning 729 to 756 s, from scratch 737 s.",
    ),
    figure_arm="early_prune",
)  # fmt: skip

STUDIES = (CIFAR,)
